"""How good results are: average precision, and what their scores are worth."""
