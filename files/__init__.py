"""Everything the project writes and reads back: each name on disk stands here, once."""
