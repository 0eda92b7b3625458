"""Published and measured numbers as data, and the pages made from them."""
