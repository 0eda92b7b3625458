"""What several attacks share: loops, searches."""
