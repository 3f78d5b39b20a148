/*
 * dnnl_adapter.h - oneDNN's convolutions and weight reorders behind one small interface: the only
 * module that includes oneDNN's headers, and the only one that knows where version 2.6 (Debian 12)
 * and 3.x differ.
 *
 * Activations come in layouts that the caller fixes; the layout of weights is oneDNN's choice for
 * each primitive, which the caller packs them into (adapter_reorder). Scratchpads are the caller's
 * memory: running a primitive allocates nothing but what oneDNN itself cannot avoid.
 *
 * A primitive is made for the number of OpenMP threads set when it was opened and must run with the
 * same number (cpu_team.h sets it). All calls come from one thread.
 */
#ifndef TRAIN_DNNL_ADAPTER_H
#define TRAIN_DNNL_ADAPTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct adapter;         /* oneDNN's engine and stream */
struct adapter_conv;    /* one direction of a convolution, ready to run */
struct adapter_weights; /* how weights lie in memory */
struct adapter_reorder; /* a copy from one way to lie to another */

enum adapter_type { ADAPTER_F32, ADAPTER_BF16 };

/* Of an activation; meaning N x C x H x W. */
enum adapter_layout {
    ADAPTER_NCHW,
    ADAPTER_NHWC,
    ADAPTER_BLOCKED /* N x C/16 x H x W x 16; C is a multiple of 16 */
};

/* What oneDNN may use here: what the CPU has, less what ONEDNN_MAX_CPU_ISA forbids. */
struct adapter_machine {
    char name[64]; /* "oneDNN 2.6.3, avx512_core_bf16" */
    bool avx2;
    bool avx512; /* AVX-512 with BW, DQ and VL */
    bool bf16;   /* instructions that multiply bf16 numbers */
    bool amx;    /* tiles */
};

enum adapter_pass {
    ADAPTER_FORWARD,
    ADAPTER_INFERENCE,
    ADAPTER_BACKWARD_DATA,
    ADAPTER_BACKWARD_WEIGHTS
};

struct adapter_conv_settings {
    enum adapter_pass pass;
    int n, ic, ih, iw, oc, oh, ow, kernel, stride, padding;
    enum adapter_type
        type; /* of activations, their gradients and weights; gradients of weights are f32 */
    enum adapter_layout in, out; /* of in and its gradient, of out and its gradient */
    bool winograd;       /* 3 x 3, stride 1, f32 only; 2.6 has it for AVX-512, 3.x has not */
    bool residual, relu; /* ADAPTER_INFERENCE: out = [relu](conv + bias [+ residual]) */
};

/* What a run reads and writes, by pass. Pointers that a pass does not use are not looked at.
 * FORWARD, INFERENCE: out of in, weights; INFERENCE: and bias (f32), residual (as out).
 * BACKWARD_DATA: in (the gradient of in) of out (the gradient of out), weights.
 * BACKWARD_WEIGHTS: weights (their gradient) of in, out (its gradient). */
struct adapter_conv_run {
    void *in, *weights, *bias, *residual, *out;
    void *scratchpad; /* adapter_conv_scratchpad bytes, aligned to 64 */
};

int adapter_open(struct adapter **out);
void adapter_close(struct adapter *adapter); /* NULL is fine */
void adapter_machine(struct adapter_machine *out);

/* ERR_DEVICE when oneDNN has no such convolution, naming it. Closing takes NULL. */
int adapter_conv_open(struct adapter_conv **out, struct adapter *adapter,
                      const struct adapter_conv_settings *settings);
void adapter_conv_close(struct adapter_conv *conv);
/* How the weights (BACKWARD_WEIGHTS: their gradient) lie; borrowed until close. */
const struct adapter_weights *adapter_conv_weights(const struct adapter_conv *conv);
size_t adapter_conv_scratchpad(const struct adapter_conv *conv);
/* oneDNN's name of the code behind it ("jit:avx512_core"); borrowed until close. */
const char *adapter_conv_code(const struct adapter_conv *conv);
int adapter_conv_run(struct adapter_conv *conv, const struct adapter_conv_run *run);

/* f32 weights in the order O x I x K x K; and a copy of a description. Free with
 * adapter_weights_close. */
int adapter_weights_plain(struct adapter_weights **out, int o, int i, int k);
int adapter_weights_copy(struct adapter_weights **out, const struct adapter_weights *from);
void adapter_weights_close(struct adapter_weights *weights); /* NULL is fine */
size_t adapter_weights_bytes(const struct adapter_weights *weights);
bool adapter_weights_equal(const struct adapter_weights *a, const struct adapter_weights *b);

int adapter_reorder_open(struct adapter_reorder **out, struct adapter *adapter,
                         const struct adapter_weights *from, const struct adapter_weights *to);
void adapter_reorder_close(struct adapter_reorder *reorder); /* NULL is fine */
size_t adapter_reorder_scratchpad(const struct adapter_reorder *reorder);
int adapter_reorder_run(struct adapter_reorder *reorder, const void *from, void *to,
                        void *scratchpad);

#endif
