/*
 * weights.h - the weights of a ResNet from any file that holds them: this program's checkpoints,
 * torch.save's files of both formats, safetensors. The state dict is found wherever such files keep
 * it, its prefixes are stripped, the architecture is read off its names, every shape is checked,
 * and everything becomes finite f32. Names and shapes are torchvision's.
 */
#ifndef TRAIN_WEIGHTS_H
#define TRAIN_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "train/model.h"
#include "train/pth.h"

struct weights_tensor {
    const char *name; /* without prefixes */
    int rank;
    int64_t shape[4];
    const float *value;
};

/* Everything lives until weights_close. */
struct weights {
    const char *format; /* "a PyTorch file", "a PyTorch file from before version 1.6", "a
                           safetensors file" */
    bool ours;          /* a checkpoint of this program, or an export of one */
    const char *arch;   /* one of model_archs */
    size_t classes;     /* outputs of the network */
    /* What output k is: folder name (WNID) and words. NULL: unknown. With 1,000 outputs and no
     * table of its own a file is taken to have ILSVRC2012's classes in the order of their WNIDs, as
     * torchvision's have (assumed). */
    const char *const *class_names, *const *class_words;
    bool assumed;
    struct weights_tensor *tensors;
    size_t tensor_count;
    const struct pth_value *root; /* the whole file; for what stands beside the weights */
};

/* Read PATH. ARCH: what it must be; NULL: what it is. ERR_INPUT: damaged, of another kind, or a
 * value that is not finite (tensor and element are named). ERR_MISMATCH: no state dict of a ResNet;
 * each missing, unexpected and wrong tensor is a log line with its shapes. */
int weights_open(struct weights **out, const char *path, const char *arch);
void weights_close(struct weights *weights); /* NULL is fine */

const struct weights_tensor *weights_find(const struct weights *weights, const char *name);
/* A setting of the run that a checkpoint of this program remembers ("image-size"); NULL when it
 * does not. */
const char *weights_setting(const struct weights *weights, const char *name);

/* VALUE's element INDEX as f32. */
float weights_element(const struct pth_value *value, size_t index);

#endif
