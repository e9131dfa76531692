"""What a user may set: recipes, the method's switches."""
