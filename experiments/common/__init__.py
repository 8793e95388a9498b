"""What the commands share: flags, run folders, progress."""
