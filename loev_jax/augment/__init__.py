"""Views of a clip: what is drawn for each, and how audio or spectrum is transformed."""
