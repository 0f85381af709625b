"""Label tables: columns, crash-safe writing, queries, exports, imports, comparisons."""
