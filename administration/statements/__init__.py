"""The pages of statements: months of customers, drafts, closing, and issued documents with their files."""
