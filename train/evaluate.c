#include "train/evaluate.h"

#include "common/err.h"
#include "common/log.h"
#include "common/work.h"
#include "common/stop.h"

int evaluate_run(struct net *net, struct loader *loader, struct evaluation *out)
{
    const struct batch *batch;
    double begin = work_seconds(), loss = 0;
    int64_t images = 0, top1 = 0, top5 = 0, all = (int64_t)loader_images(loader);
    int rc = loader_start(loader, 0, 0);
    if (rc)
        return rc;
    while ((rc = loader_next(loader, &batch)) == 1) {
        struct loss_result result;
        if (stop_requested())
            return err_set(ERR_STOPPED, "stopped in validation after %lld of %lld pictures",
                           (long long)images, (long long)all);
        if ((rc = net_evaluate(net, batch, &result)))
            return rc;
        loss += result.loss * batch->rows;
        top1 += result.top1;
        top5 += result.top5;
        images += batch->rows;
        if (log_progress_due(false))
            log_progress("validation: %lld of %lld pictures, %.1f img/s", (long long)images,
                         (long long)all, (double)images / (work_seconds() - begin));
    }
    if (rc)
        return rc;
    if (images != all)
        return err_set(ERR_FAULT, "validation counted %lld pictures of %lld", (long long)images,
                       (long long)all);
    log_progress_end();
    *out = (struct evaluation){
        .loss = loss / (double)images,
        .top1 = 100.0 * (double)top1 / (double)images,
        .top5 = 100.0 * (double)top5 / (double)images,
        .images = images,
        .seconds = work_seconds() - begin,
    };
    return 0;
}
