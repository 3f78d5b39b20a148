#include "common/verdict.h"

#include "common/err.h"

int verdict_bad(struct decode_info *info, const char *reason, const char *detail)
{
    char quoted[256];
    err_quote(info->reason, sizeof info->reason, reason);
    info->verdict = DECODE_BAD;
    if (!detail)
        return err_set(ERR_INPUT, "%s", info->reason);
    return err_set(ERR_INPUT, "%s: %s", info->reason, err_quote(quoted, sizeof quoted, detail));
}

void verdict_warn(struct decode_info *info, const char *complaint)
{
    if (info->verdict != DECODE_PACK)
        return;
    err_quote(info->reason, sizeof info->reason, complaint);
    info->verdict = DECODE_WARN;
}
