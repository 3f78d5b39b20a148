/*
 * place.h - bring one file to another place by a hard link, a copy, a symbolic link or a move, so
 * that it appears there whole or not at all and nothing that exists is ever overwritten.
 */
#ifndef PREP_PLACE_H
#define PREP_PLACE_H

#include <stdbool.h>

enum place_mode { PLACE_LINK, PLACE_COPY, PLACE_SYMLINK, PLACE_MOVE };

enum place_result {
    PLACE_DONE,     /* it stands there now */
    PLACE_COPIED,   /* the same; copied, because no hard link or rename leads there */
    PLACE_THERE,    /* it stood there before: the same file, or one with the same bytes */
    PLACE_CONFLICT, /* something else stands there; nothing was changed */
};

/* SOURCE is a regular file, or (but for a move) a symbolic link to one; TARGET's folder exists and
 * is another one than SOURCE's. A hard link that is impossible (another file system, one without
 * links, a limit) becomes a copy, a move likewise a copy and a removal. A move is also complete
 * when TARGET has the same bytes already: then SOURCE is removed. LINK_TEXT is what a symbolic link
 * will hold. DRY: look, change nothing, and tell what would come of it (a copy that would stand for
 * a link is told as PLACE_DONE). Names are durable after files_sync_folder on TARGET's folder.
 * ERR_IO, ERR_INPUT.
 */
int place_file(const char *source, const char *target, enum place_mode mode, const char *link_text,
               bool dry, enum place_result *result);

#endif
