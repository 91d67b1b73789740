"""`python -m cli` is `winnow`."""

from cli.main import main

main()
