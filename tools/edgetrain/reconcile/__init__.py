"""The story: validate, plan, apply, told from top to bottom."""
