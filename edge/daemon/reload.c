// SPDX-License-Identifier: Apache-2.0
#include "reload.h"

#include <io/log.h>
#include <stdio.h>

#define LOOK_MS  1000
#define AGAIN_MS 5000 // after one that could not come up with the applier

void edge_reload_init(struct edge_reload *reload, uv_loop_t *loop, const struct tally_host_ops *ops,
                      struct tally_host *host, const char *module, struct tally_guests *guests)
{
    *reload = (struct edge_reload){.loop = loop, .ops = ops, .host = host, .guests = guests};
    if (!module || !ops->renew_begin) return;
    (void)snprintf(reload->module, sizeof reload->module, "%s", module);
    reload->read = reload->seen = tally_file_identity(module);
    atomic_store_explicit(&reload->identity, ops->identity(host), memory_order_relaxed);
}

// ---------------------------------------------------------------------------------------------------- the work

// On a thread of the pool.
static void work(uv_work_t *request)
{
    struct edge_reload *reload = request->data;
    if (reload->with_module) reload->status = reload->ops->renew_prepare(reload->host, reload->module, &reload->reason);
#ifdef TALLY_HAVE_WASMTIME
    if (reload->guests) tally_guests_reload(reload->guests, reload->with_all);
#endif
    if (reload->ops->untidy && reload->ops->untidy(reload->host)) reload->ops->tidy(reload->host);
}

static void module_done(struct edge_reload *reload)
{
    enum tally_status status = reload->ops->renew_end(reload->host, reload->status, &reload->reason);
    uint64_t ms = uv_now(reload->loop) - reload->begun_ms;
    struct tally_log_field module = tally_log_str("module", reload->module);
    if (status == TALLY_OK) {
        struct tally_view_info held;
        reload->ops->held(reload->host, &held);
        uint64_t identity = reload->ops->identity(reload->host);
        atomic_fetch_add_explicit(&reload->taken, 1, memory_order_relaxed);
        atomic_store_explicit(&reload->identity, identity, memory_order_relaxed);
        tally_info("module_reloaded", module, tally_log_hex("id", identity), tally_log_u64("version", held.version),
                   tally_log_u64("keys", held.rows), tally_log_u64("ms", ms));
        return;
    }
    atomic_fetch_add_explicit(&reload->refused, 1, memory_order_relaxed);
    tally_error("module_refused", module, tally_log_str("reason", reload->reason.text), tally_log_u64("ms", ms),
                tally_log_str("effect", status == TALLY_STALLED ? "the one in use goes on; it is tried again"
                                                                : "the one in use goes on"));
    if (status != TALLY_STALLED) return;
    reload->module_wanted = true;
    reload->look_at_ms += AGAIN_MS;
}

static void done(uv_work_t *request, int cancelled)
{
    struct edge_reload *reload = request->data;
    reload->busy = false;
    uv_update_time(reload->loop);
    if (cancelled) reload->status = TALLY_IO;
    if (reload->with_module) module_done(reload);
}

// ---------------------------------------------------------------------------------------------------- when

static void begin(struct edge_reload *reload)
{
    bool module = reload->module_wanted && reload->module[0];
    // Between the chunks of a whole state: at the next tick.
    if (module && reload->ops->renew_begin(reload->host) != TALLY_OK) return;
    // Before it is read: when it changes meanwhile, it is read again.
    if (module) reload->read = tally_file_identity(reload->module);
    reload->with_module = module;
    reload->with_all = reload->all;
    reload->module_wanted = reload->all = false;
    reload->work.data = reload;
    reload->begun_ms = uv_now(reload->loop);
    reload->busy = uv_queue_work(reload->loop, &reload->work, work, done) == 0;
}

void edge_reload_all(struct edge_reload *reload)
{
    tally_info("reload", tally_log_str("module", reload->module[0] ? reload->module : "none"),
               tally_log_str("guests", reload->guests ? "all" : "none"));
    reload->all = reload->module_wanted = true;
    reload->look_at_ms = 0;
}

void edge_reload_tick(struct edge_reload *reload, uint64_t now_ms)
{
    if (reload->busy || now_ms < reload->look_at_ms) return;
    bool untidy = reload->ops->untidy && reload->ops->untidy(reload->host), changed = false;
    reload->look_at_ms = now_ms + (reload->module_wanted ? 0 : LOOK_MS);
    if (reload->module[0]) {
        // Another file that has not changed for one look: one that is being written is left alone.
        struct tally_file_identity found = tally_file_identity(reload->module);
        bool still = tally_file_identity_equal(&found, &reload->seen);
        reload->seen = found;
        if (found.inode && still && !tally_file_identity_equal(&found, &reload->read)) reload->module_wanted = true;
    }
#ifdef TALLY_HAVE_WASMTIME
    changed = reload->guests && tally_guests_changed(reload->guests);
#endif
    if (reload->all || reload->module_wanted || changed || untidy) begin(reload);
}

void edge_reload_stop(struct edge_reload *reload)
{
    reload->look_at_ms = UINT64_MAX;
    // Its callback ends what was begun.
    while (reload->busy) (void)uv_run(reload->loop, UV_RUN_ONCE);
}
