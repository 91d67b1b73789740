"""What Winnow's services share: the words, the contracts, and how a stage runs. No business rule of any one service."""
