#include "train/saver.h"

#include "common/err.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/work.h"

enum { SAVE_FAILURES = 3 }; /* in a row end the run */

/* The snapshot belongs to the thread from an order to its answer, and to training else. */
struct saver {
    struct state *state;
    const char *folder;
    struct work_queue *orders, *answers; /* of this saver, one at a time */
    struct work_crew *crew;
    bool model;       /* of the order */
    struct err error; /* of the answer */
    double seconds;   /* of the answer */
    bool under_way;   /* an order without its answer */
    int failures;     /* in a row */
    struct saver_times times;
};

static int write_snapshots(void *argument)
{
    struct saver *saver = argument;
    void *order;
    while (work_queue_take(saver->orders, &order)) {
        double begin = work_seconds();
        err_take(state_write(saver->state, saver->folder, saver->model), &saver->error);
        saver->seconds = work_seconds() - begin;
        work_queue_give(saver->answers, saver);
    }
    return 0;
}

int saver_open(struct saver **out, struct state *state, const char *folder)
{
    struct saver *saver = mem_array(1, sizeof *saver, "saver");
    int rc = -ERR_MEMORY;
    *out = NULL;
    if (!saver)
        return rc;
    saver->state = state;
    saver->folder = folder;
    if ((rc = work_queue_open(&saver->orders, 1)) || (rc = work_queue_open(&saver->answers, 1)) ||
        (rc = work_crew_open(&saver->crew, NULL, NULL)) ||
        (rc = work_crew_start(saver->crew, "saver", write_snapshots, saver))) {
        saver_close(saver);
        return rc;
    }
    *out = saver;
    return 0;
}

void saver_close(struct saver *saver)
{
    if (!saver)
        return;
    if (saver->orders)
        work_queue_end(saver->orders);
    work_crew_close(saver->crew); /* the thread writes what was ordered: an answer has its room */
    if (saver->under_way && saver->error.kind)
        log_warning("the checkpoint was not saved: %s; the earlier one stands", saver->error.text);
    work_queue_close(saver->answers);
    work_queue_close(saver->orders);
    mem_free(saver);
}

static void begin_write(struct saver *saver, bool model)
{
    saver->model = model;
    saver->under_way = true;
    work_queue_give(saver->orders, saver);
}

/* The save under way has ended: its return code, with the error text set. */
static int take_answer(struct saver *saver)
{
    saver->under_way = false;
    saver->times.saves++;
    saver->times.writing += saver->seconds;
    return err_raise(&saver->error);
}

static int wait_answer(struct saver *saver)
{
    void *answer;
    work_queue_take(saver->answers, &answer);
    return take_answer(saver);
}

/* What the return code of a save means for the run. */
static int judge(struct saver *saver, int rc)
{
    saver->failures = rc ? saver->failures + 1 : 0;
    if (!rc || rc != -ERR_IO || saver->failures >= SAVE_FAILURES)
        return rc;
    log_warning("the checkpoint was not saved: %s; the earlier one stands, training goes on",
                err_text());
    return 0;
}

/* A snapshot, once the one before is written. */
static int take_snapshot(struct saver *saver, const struct position *position)
{
    int rc = saver->under_way ? judge(saver, wait_answer(saver)) : 0;
    return rc ? rc : state_snapshot(saver->state, position);
}

int saver_save(struct saver *saver, const struct position *position, bool model)
{
    double begin = work_seconds();
    int rc = take_snapshot(saver, position);
    if (!rc)
        begin_write(saver, model);
    saver->times.stood += work_seconds() - begin;
    return rc;
}

int saver_check(struct saver *saver)
{
    void *answer;
    if (!saver->under_way || !work_queue_try_take(saver->answers, &answer))
        return 0;
    return judge(saver, take_answer(saver));
}

static int write_and_wait(struct saver *saver, bool model)
{
    begin_write(saver, model);
    return wait_answer(saver);
}

int saver_save_last(struct saver *saver, const struct position *position, bool model)
{
    int rc = take_snapshot(saver, position);
    if (rc)
        return rc;
    rc = write_and_wait(saver, model);
    return rc == -ERR_IO ? write_and_wait(saver, model) : rc;
}

struct saver_times saver_times(const struct saver *saver)
{
    return saver->times;
}
