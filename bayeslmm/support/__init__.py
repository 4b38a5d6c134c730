"""Small things that any stage may use: arguments, files, threads, text, progress."""
