#include "train/schedule.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

/* rate * gamma^falls by repeated products, as StepLR: exact on every machine. */
static double fallen(double rate, double gamma, int64_t falls)
{
    for (int64_t i = 0; i < falls && rate > 0; i++)
        rate *= gamma;
    return rate;
}

double schedule_rate(const struct settings *settings, int64_t steps, int64_t epoch, int64_t step)
{
    int64_t warmup = settings->warmup_epochs;
    if (epoch < warmup)
        return settings->lr * (double)(epoch * steps + step + 1) / (double)(warmup * steps);
    if (settings->schedule == SCHEDULE_STEP)
        return fallen(settings->lr, settings->lr_gamma, (epoch - warmup) / settings->lr_step_size);
    double position = (double)(epoch - warmup), length = (double)(settings->epochs - warmup);
    if (settings->schedule_unit == UNIT_STEP)
        position += (double)step / (double)steps;
    return settings->lr * 0.5 * (1.0 + cos(pi * fmin(position / length, 1.0)));
}

struct checkpoint_schedule schedule_state(const struct settings *settings, int64_t steps,
                                          int64_t epoch, int64_t step)
{
    struct checkpoint_schedule state = {
        .base_lr = settings->lr,
        .lr = schedule_rate(settings, steps, epoch, step),
    };
    int64_t done = epoch > settings->warmup_epochs ? epoch - settings->warmup_epochs : 0;
    if (settings->schedule == SCHEDULE_STEP) {
        state.kind = CHECKPOINT_STEP;
        state.period = settings->lr_step_size;
        state.gamma = settings->lr_gamma;
        state.steps = done;
        return state;
    }
    bool per_step = settings->schedule_unit == UNIT_STEP;
    state.kind = CHECKPOINT_COSINE;
    state.period = (settings->epochs - settings->warmup_epochs) * (per_step ? steps : 1);
    state.steps = per_step && epoch >= settings->warmup_epochs ? done * steps + step : done;
    return state;
}
