-- Checkpoints of all of a tenant's runs in two statements, where each had cost three; and the lease, which is indexed, changes
-- once a second instead of a dozen times, so that the other updates of a run touch no index.

-- Store batches of events of any tenants' runs, and renew their leases. Returns the runs that were closed meanwhile ('lost',
-- and nothing is written of them) and those that somebody asked to stop ('cancel').
create or replace function chat_checkpoint_runs(
    p_lease_ms int, p_tenants uuid[], p_users text[], p_runs text[], p_first int[], p_last int[], p_payloads bytea[],
    p_uses text[] default null)
returns table (run_id text, state text) language plpgsql as $$
declare
    tenant uuid;
    lease timestamptz := clock_timestamp() + p_lease_ms * interval '1 millisecond';
    going_on text[];
    to_stop text[];
begin
    for tenant in select distinct t from unnest(p_tenants) t loop
        perform set_config('stonechat.tenant_id', tenant::text, true), set_config('stonechat.user_id', '', true);
        -- By the array and not by a join, or Postgres goes through all of the batch for each run.
        with renewed as (
            update runs r
                set lease_expires_at = case when r.lease_expires_at < lease - interval '1 second' then lease
                                            else r.lease_expires_at end,
                    last_seq = greatest(r.last_seq, p_last[array_position(p_runs, r.run_id)]),
                    uses = coalesce(p_uses[array_position(p_runs, r.run_id)]::json, r.uses)
                where r.tenant_id = tenant and r.run_id = any (p_runs) and r.status = 'running'
                  and r.user_id = p_users[array_position(p_runs, r.run_id)]
                returning r.run_id, r.cancel_requested)
        select coalesce(array_agg(n.run_id), '{}'), coalesce(array_agg(n.run_id) filter (where n.cancel_requested), '{}')
            into going_on, to_stop from renewed n;
        insert into run_events (tenant_id, run_id, first_seq, last_seq, user_id, payload)
            select tenant, b.run_id, b.first_seq, b.last_seq, b.user_id, b.payload
            from unnest(p_tenants, p_users, p_runs, p_first, p_last, p_payloads)
                as b (tenant_id, user_id, run_id, first_seq, last_seq, payload)
            where b.tenant_id = tenant and b.payload is not null and b.run_id = any (going_on);
        return query
            select b.run_id, 'lost' from unnest(p_tenants, p_runs) as b (tenant_id, run_id)
                where b.tenant_id = tenant and b.run_id <> all (going_on)
            union all select s, 'cancel' from unnest(to_stop) s;
    end loop;
end $$;
