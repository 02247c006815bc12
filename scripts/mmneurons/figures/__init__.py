"""One function per kind of figure or table: rows and arrays in, a figure or a page out."""
