/*
 * published.h - torchvision's files of ResNet weights: their names' hash, and the accuracies that
 * torchvision publishes for them on the 50,000 validation pictures.
 */
#ifndef TRAIN_PUBLISHED_H
#define TRAIN_PUBLISHED_H

struct published {
    const char *arch;
    const char *hash;  /* the first 8 digits of the file's SHA-256, as in its name */
    const char *table; /* "IMAGENET1K_V1" */
    double top1, top5; /* percent */
    int resize;        /* shorter side before the crop of 224 */
};

/* The file whose SHA-256 begins as SHA256 does; NULL: none of torchvision's. */
const struct published *published_find(const char *sha256);
/* The first set of weights of ARCH: what a check of the pipeline is done with. */
const struct published *published_first(const char *arch);

#endif
