/*
 * draw.h - the drawn pictures of prep sample: a class is a shape with a texture; all else is
 * chance.
 *
 * Places, sizes, turns, proportions and every colour are drawn independently of the class, on a
 * background of gradients, blobs, lines and noise, so that no pixel by itself and no mean colour
 * tells the class. Several shapes cover about half of a picture: a crop of a tenth of it mostly
 * still shows one.
 *
 * Only +, -, *, /, square roots and integers: the same numbers give the same pixels on every
 * machine.
 */
#ifndef PREP_DRAW_H
#define PREP_DRAW_H

#include <stddef.h>
#include <stdint.h>

#include "common/rng.h"

#define DRAW_CLASS_LIMIT 100

/* OUT = "striped triangle": what class NUMBER (0 .. DRAW_CLASS_LIMIT-1) is. The first ten differ in
 * shape and in texture; every further ten pair them anew. */
void draw_words(int number, char *out, size_t size);
/* Does its shape have no corners? */
int draw_is_round(int number);

/* Draw a picture of class NUMBER into RGB (WIDTH * HEIGHT * 3 bytes). */
void draw_picture(struct rng *random, int number, int width, int height, uint8_t *rgb);

#endif
