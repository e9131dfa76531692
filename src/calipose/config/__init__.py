"""What a user may set: recipes, and the switches of the method."""
