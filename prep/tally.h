/*
 * tally.h - what came out of packing: how many pictures of which class and kind were stored, and
 * the list of those that were refused (bad) or that the decoder complained about (warn). One is
 * made per shard and kept in the shard's journal (journal.h); their sum makes the manifest, bad.tsv
 * and the summary.
 */
#ifndef PREP_TALLY_H
#define PREP_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/mem.h"
#include "prep/convert.h"
#include "prep/source.h"

/* What is counted of stored pictures. */
enum tally_kind {
    TALLY_JPEG,
    TALLY_PNG,
    TALLY_GRAY,
    TALLY_CMYK,
    TALLY_STORED_RGB,
    TALLY_PROGRESSIVE,
    TALLY_ARITHMETIC,
    TALLY_PALETTE,
    TALLY_ALPHA,
    TALLY_SIXTEEN_BIT,
    TALLY_ICC_IGNORED,
    TALLY_ORIENTATION_IGNORED,
    TALLY_RESIZED,
    TALLY_SIZE_KEPT,
    TALLY_KINDS
};
/* Their keys in journals and the manifest: "gray", "orientation_ignored", ... */
extern const char *const tally_keys[TALLY_KINDS];

/* A picture on the list. */
struct tally_note {
    uint32_t file;          /* number in the source */
    bool bad;               /* else warn */
    uint32_t shard, record; /* where a warn was stored */
    const char *reason;     /* printable ASCII; the tally's */
};

struct tally {
    uint64_t records, bad, warned;
    uint64_t payload_bytes;
    uint32_t largest_width, largest_height;
    uint64_t largest_payload;
    uint64_t kinds[TALLY_KINDS];
    uint64_t *class_images; /* [class_count] */
    uint32_t class_count;
    struct tally_note *notes;
    size_t note_count, note_capacity;
    struct mem_arena reasons;
};

int tally_open(struct tally *tally, uint32_t class_count);
void tally_reset(struct tally *tally);
void tally_close(struct tally *tally); /* an empty one is fine */

/* Count FILE of class LABEL; a picture that is not bad is record RECORD (or will be) of SHARD. */
int tally_add(struct tally *tally, uint32_t file, uint32_t label, uint32_t shard, uint32_t record,
              const struct converted *converted);
/* Put NOTE on the list, with a copy of its reason; counts nothing. */
int tally_note(struct tally *tally, const struct tally_note *note);

/* Write FOLDER/bad.tsv: a head line, then one line per note in byte order of the files' names
 * (quoted by err_quote): verdict, file, reason, place ("shard-00003.mdb:17", "-" for bad). */
int tally_write_list(const struct tally *tally, const struct source *source, const char *folder);

/* OUT = "1,281,144 JPEG, 1 PNG, 22 CMYK made RGB, ..." of what was met. */
void tally_describe(const struct tally *tally, char *out, size_t size);

#endif
