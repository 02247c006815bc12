"""Faces over the field's text metrics, and the measures of the papers: tables in, numbers out."""
