"""Fire drills: the whole platform on its real parts, while one after the other is stopped, frozen, slowed and killed."""
