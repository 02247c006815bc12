"""One reader per dataset: from the files as published to one table of samples."""
