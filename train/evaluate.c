#include "train/evaluate.h"

#include "common/err.h"
#include "common/log.h"
#include "common/work.h"
#include "common/stop.h"

/* What the results so far come to. */
struct sums {
    double loss;
    int64_t images, top1, top5;
};

/* The oldest result of a batch that had ROWS pictures. */
static int add_result(struct net *net, int rows, struct sums *sums)
{
    struct loss_result result;
    int rc = net_result(net, &result);
    if (rc)
        return rc;
    sums->loss += result.loss * rows;
    sums->top1 += result.top1;
    sums->top5 += result.top5;
    sums->images += rows;
    return 0;
}

/* All batches of LOADER: each is computed while the next one comes to the device, and its result is
 * read when that one's computation is queued. */
static int run_batches(struct net *net, struct loader *loader, double begin,
                       int (*visit)(void *context, const struct batch *batch), void *context,
                       struct sums *sums)
{
    const struct batch *batch;
    const long long all = (long long)loader_images(loader);
    int before = 0, more = loader_next(loader, &batch);
    while (more == 1) {
        const int rows = batch->rows;
        int rc;
        if (stop_requested())
            return err_set(ERR_STOPPED, "stopped in validation after %lld of %lld pictures",
                           (long long)sums->images, all);
        if ((rc = net_evaluate(net, batch, NULL)))
            return rc;
        if (visit && (rc = visit(context, batch)))
            return rc;
        if ((more = loader_next(loader, &batch)) == 1 && (rc = net_upload(net, batch)))
            return rc;
        if (before && (rc = add_result(net, before, sums)))
            return rc;
        before = rows;
        if (log_progress_due(false))
            log_progress("validation: %lld of %lld pictures, %.1f img/s", (long long)sums->images,
                         all, (double)sums->images / (work_seconds() - begin));
    }
    return more || !before ? more : add_result(net, before, sums);
}

int evaluate_run(struct net *net, struct loader *loader, struct evaluation *out)
{
    return evaluate_each(net, loader, NULL, NULL, out);
}

int evaluate_each(struct net *net, struct loader *loader,
                  int (*visit)(void *context, const struct batch *batch), void *context,
                  struct evaluation *out)
{
    struct sums sums = {0};
    double begin = work_seconds();
    long long all = (long long)loader_images(loader);
    int rc = loader_start(loader, 0, 0);
    if (rc || (rc = run_batches(net, loader, begin, visit, context, &sums)))
        return rc;
    if (sums.images != all)
        return err_set(ERR_FAULT, "validation counted %lld pictures of %lld",
                       (long long)sums.images, all);
    log_progress_end();
    *out = (struct evaluation){
        .loss = sums.loss / (double)sums.images,
        .top1 = 100.0 * (double)sums.top1 / (double)sums.images,
        .top5 = 100.0 * (double)sums.top5 / (double)sums.images,
        .images = sums.images,
        .seconds = work_seconds() - begin,
    };
    return 0;
}
