"""Those who run the platform: their sign-in, what they see across tenants, and the levers they have.

Reads across tenants go through `database.platform()`, which sees but writes only the platform's own tables. What changes
in a tenant is changed through `database.tenant(tenant_id)`, as an `Actor` of kind `operator`, and stands in that tenant's own
audit log. What tenants wrote or were asked is read only under a grant: see `support.py`.
"""
