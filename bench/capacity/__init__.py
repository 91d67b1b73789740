"""What a platform of a given size needs, by arithmetic from measured costs."""
