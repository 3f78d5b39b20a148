/*
 * rename.h - the launchers of kernels/kernels.h under other names: the kernels are compiled with
 * this before them, so that launch.c may stand in front of each and say what memory it uses.
 */
#ifndef TESTS_CUDA_SIM_RENAME_H
#define TESTS_CUDA_SIM_RENAME_H

#define kernel_augment sim_kernel_augment
#define kernel_loss_forward sim_kernel_loss_forward
#define kernel_loss_backward sim_kernel_loss_backward
#define kernel_update sim_kernel_update
#define kernel_finite sim_kernel_finite
#define kernel_scaler_step sim_kernel_scaler_step
#define kernel_accumulate sim_kernel_accumulate
#define kernel_fill sim_kernel_fill
#define kernel_convert sim_kernel_convert
#define kernel_mean_pool sim_kernel_mean_pool
#define kernel_mean_pool_backward sim_kernel_mean_pool_backward
#define kernel_sum sim_kernel_sum
#define kernel_norm_fold sim_kernel_norm_fold
#define kernel_norm_apply sim_kernel_norm_apply
#define kernel_bias_gradient sim_kernel_bias_gradient

#endif
