/*
 * imagenet_classes.h - the 1,000 classes of ILSVRC2012 in the order of their WNIDs, which is the
 * order of the outputs of torchvision's networks, and their words from WordNet 3.0 (Princeton
 * University), as the devkit's meta.mat has them.
 */
#ifndef TRAIN_IMAGENET_CLASSES_H
#define TRAIN_IMAGENET_CLASSES_H

enum { IMAGENET_CLASS_COUNT = 1000 };

extern const char *const imagenet_class_names[IMAGENET_CLASS_COUNT]; /* "n01440764" */
extern const char *const imagenet_class_words[IMAGENET_CLASS_COUNT]; /* "tench, Tinca tinca" */

#endif
