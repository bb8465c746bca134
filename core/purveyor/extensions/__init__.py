"""What plugins bring to services of their types beyond the core: operations of their own."""
