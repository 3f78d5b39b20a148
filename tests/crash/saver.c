/*
 * saver.c - saver FOLDER STEPS: a run that only saves. It goes on from the latest checkpoint of
 * FOLDER (checkpoint_rig.h's state, two steps an epoch) and publishes one after each step as the
 * trainer does, a model at the end of each epoch. Says by fault_mark that a step is durable.
 */
#include "common/err.h"
#include "tests/checkpoint_rig.h"

/* The injector's, where it is preloaded. */
void fault_mark(unsigned number) __attribute__((weak));

static int save(const char *folder, int64_t step)
{
    static struct state state;
    fill_state(&state, step / 2, step % 2);
    state.checkpoint.global_step = step;
    int rc = 0;
    if (step % 2 == 0)
        rc = checkpoint_publish_model(folder, &state.checkpoint, 1);
    if (!rc)
        rc = checkpoint_publish(folder, &state.checkpoint);
    if (!rc && fault_mark)
        fault_mark((unsigned)step);
    return rc;
}

int main(int argc, char **argv)
{
    struct checkpoint_file *file = NULL;
    const struct checkpoint *found = NULL;
    if (argc != 3)
        return ERR_USAGE;
    int rc = checkpoint_latest(argv[1], &file, &found);
    int64_t step = found ? found->global_step : 0;
    checkpoint_close(file);
    while (!rc && step < atol(argv[2]))
        rc = save(argv[1], ++step);
    if (rc)
        fprintf(stderr, "%s\n", err_text());
    return err_exit_code(rc);
}
