"""What people and programs read: text, Markdown, JSON, GitHub annotations."""
