"""Web sources: single pages, sitemaps and whole sites, fetched politely, kept up to date, and bounded in everything."""
