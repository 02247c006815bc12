"""Getting published files: whole ones, members of archives, and single pictures."""
