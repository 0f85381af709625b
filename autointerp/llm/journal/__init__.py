"""Every paid reply, on disk before anything is made of it."""
