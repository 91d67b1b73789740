"""The networks that training fits: torch modules, no data and no files."""
