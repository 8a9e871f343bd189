"""The report: from numbers to text and a page."""
