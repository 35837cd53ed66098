"""Two tenants to look at: a shop with policies, and Stonechat's own documentation."""
