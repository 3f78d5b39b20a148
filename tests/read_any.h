/*
 * read_any.h - opens a file of each kind that comes from others, as the programs do, and lets it
 * go: for the hostile files and the fuzzers.
 */
#ifndef TESTS_READ_ANY_H
#define TESTS_READ_ANY_H

#include <string.h>

#include "common/decode.h"
#include "common/err.h"
#include "common/files.h"
#include "common/manifest.h"
#include "common/mem.h"
#include "train/config.h"
#include "train/pth.h"
#include "train/pth_stream.h"
#include "train/safetensors.h"
#include "train/settings.h"

static inline int read_zip(const char *path)
{
    const struct pth_value *root;
    struct pth_file *file;
    int rc = pth_open_foreign(&file, path, &root);
    pth_close(file);
    return rc;
}

static inline int read_stream(const char *path)
{
    const struct pth_value *root;
    struct pth_stream *file;
    int rc = pth_stream_open(&file, path, &root);
    pth_stream_close(file);
    return rc;
}

static inline int read_safetensors(const char *path)
{
    const struct pth_value *root;
    struct safetensors *file;
    int rc = safetensors_open(&file, path, &root);
    safetensors_close(file);
    return rc;
}

/* As weights.c chooses, by the first bytes. */
static inline int read_weights(const char *path)
{
    uint8_t *bytes;
    size_t size;
    int rc = files_read(path, 1 << 28, &bytes, &size);
    if (rc)
        return rc;
    bool stream = pth_stream_begins(bytes, size < 64 ? size : 64),
         brace = size > 8 && bytes[8] == '{';
    mem_free(bytes);
    return stream ? read_stream(path) : brace ? read_safetensors(path) : read_zip(path);
}

static inline int read_config(const char *path)
{
    static const bool given[SETTINGS_ROW_LIMIT];
    struct mem_arena texts = {0};
    struct settings settings;
    opts_defaults(settings_command.rows, &settings);
    int rc = config_read(path, settings_command.rows, &settings, given, &texts);
    mem_arena_release(&texts);
    return rc;
}

static inline int read_picture(const char *path)
{
    struct picture picture = {0};
    struct decode_limits limits = decode_default_limits;
    struct decode_info info;
    struct decoder *decoder;
    uint8_t *bytes;
    size_t size;
    int rc = files_read(path, 1 << 28, &bytes, &size);
    if (rc)
        return rc;
    limits.pixels = 1 << 24;
    if (!(rc = decoder_open(&decoder)))
        rc = decoder_read(decoder, bytes, size, &limits, &picture, &info);
    decoder_close(decoder);
    picture_release(&picture);
    mem_free(bytes);
    return rc;
}

static inline int read_manifest(const char *path)
{
    struct manifest manifest = {0};
    uint8_t *bytes;
    size_t size;
    int rc = files_read(path, 1 << 28, &bytes, &size);
    if (rc)
        return rc;
    rc = manifest_read(&manifest, path, (const char *)bytes, size);
    manifest_release(&manifest);
    mem_free(bytes);
    return rc;
}

#endif
