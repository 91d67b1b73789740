"""What a graphics card is worth: training steps, vector search, models. Each step in a process of its own."""
