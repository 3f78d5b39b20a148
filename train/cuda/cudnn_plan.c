#include "train/cuda/cudnn_plan.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "common/err.h"
#include "common/mem.h"
#include "train/cuda/cudnn_graph.h"
#include "train/cuda/cudnn_library.h"

/* A plan for a device that is there is made by a handle, for an absent one by its properties. A
 * handle serves one thread at a time: threads that compile borrow one each. */
#define HANDLES 64

struct cudnn_device {
    const struct cudnn *library;
    int index; /* -1: absent */
    char *json;
    pthread_mutex_t lock; /* over spare */
    cudnnHandle_t spare[HANDLES];
    int spare_count;
    cudnnHandle_t running; /* of door_plan_run */
};

struct cudnn_plan {
    const struct cudnn *library;
    struct cudnn_set set; /* the plan and the engine configuration it came from */
    cudnnBackendDescriptor_t plan;
    struct door_plan_info info;
    char *name; /* the graph's */
};

/* ---- the device ------------------------------------------------------------------------------ */

static struct cudnn_attribute attribute(cudnnBackendAttributeName_t name,
                                        cudnnBackendAttributeType_t type, int64_t count,
                                        const void *values)
{
    return (struct cudnn_attribute){name, type, count, values};
}

/* An attribute of characters, ended by a 0; mem_free it. */
static int get_text(const struct cudnn *library, cudnnBackendDescriptor_t from,
                    cudnnBackendAttributeName_t name, const char *what, char **out)
{
    int64_t size = 0, got = 0;
    cudnnStatus_t status = library->get(from, name, CUDNN_TYPE_CHAR, 0, &size, NULL);
    if (status || size < 1)
        return cudnn_fail(status, what);
    if (!(*out = mem_array((size_t)size + 1, 1, what)))
        return -ERR_MEMORY;
    status = library->get(from, name, CUDNN_TYPE_CHAR, size, &got, *out);
    if (!status)
        return 0;
    mem_free(*out);
    *out = NULL;
    return cudnn_fail(status, what);
}

/* The properties of an absent device, from its JSON. */
static int make_properties(struct cudnn_device *device, struct cudnn_set *set,
                           cudnnBackendDescriptor_t *out)
{
    struct cudnn_attribute json =
        attribute(CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                  (int64_t)strlen(device->json) + 1, device->json);
    return cudnn_set_make(set, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, "properties of a device", &json,
                          1, out);
}

static int read_json(struct cudnn_device *device)
{
    struct cudnn_set set = {.count = 0};
    cudnnBackendDescriptor_t properties;
    int32_t index = device->index;
    struct cudnn_attribute id =
        attribute(CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &index);
    int rc = cudnn_set_make(&set, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, "properties of the device",
                            &id, 1, &properties);
    if (!rc)
        rc = get_text(device->library, properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                      "properties of the device", &device->json);
    cudnn_set_release(&set, 0);
    return rc;
}

int cudnn_find(void)
{
    const struct cudnn *library;
    return cudnn_library_open(&library);
}

size_t cudnn_version(void)
{
    const struct cudnn *library;
    return cudnn_library_open(&library) ? 0 : library->version();
}

int cudnn_device_open(struct cudnn_device **out, int index, const char *json)
{
    struct cudnn_device *d = mem_array(1, sizeof *d, "a device of cuDNN");
    cudnnStatus_t status;
    int rc;
    if (!d)
        return -ERR_MEMORY;
    pthread_mutex_init(&d->lock, NULL);
    d->index = json ? -1 : index;
    if ((rc = cudnn_library_open(&d->library)))
        goto fail;
    cudnn_reasons_clear();
    if (json) {
        struct cudnn_set set = {.count = 0};
        cudnnBackendDescriptor_t properties;
        rc = (d->json = mem_text(json)) ? make_properties(d, &set, &properties) : -ERR_MEMORY;
        cudnn_set_release(&set, 0);
    } else if ((status = d->library->create(&d->running))) {
        rc = cudnn_fail(status, "opening the device");
    } else {
        rc = read_json(d);
    }
    if (rc)
        goto fail;
    *out = d;
    return 0;

fail:
    cudnn_device_close(d);
    return rc;
}

void cudnn_device_close(struct cudnn_device *device)
{
    if (!device)
        return;
    while (device->spare_count > 0)
        device->library->destroy(device->spare[--device->spare_count]);
    if (device->running)
        device->library->destroy(device->running);
    pthread_mutex_destroy(&device->lock);
    mem_free(device->json);
    mem_free(device);
}

const char *cudnn_device_json(const struct cudnn_device *device)
{
    return device->json;
}

static int handle_take(struct cudnn_device *device, cudnnHandle_t *out)
{
    pthread_mutex_lock(&device->lock);
    *out = device->spare_count ? device->spare[--device->spare_count] : NULL;
    pthread_mutex_unlock(&device->lock);
    cudnnStatus_t status = *out ? CUDNN_STATUS_SUCCESS : device->library->create(out);
    return status ? cudnn_fail(status, "opening a handle") : 0;
}

static void handle_give(struct cudnn_device *device, cudnnHandle_t handle)
{
    if (!handle)
        return;
    pthread_mutex_lock(&device->lock);
    bool kept = device->spare_count < HANDLES;
    if (kept)
        device->spare[device->spare_count++] = handle;
    pthread_mutex_unlock(&device->lock);
    if (!kept)
        device->library->destroy(handle);
}

/* What stands for the device while plans are made: a handle, or its properties. */
struct subject {
    cudnnHandle_t handle;
    cudnnBackendDescriptor_t properties;
};

static int subject_open(struct cudnn_device *device, struct cudnn_set *set, struct subject *out)
{
    *out = (struct subject){NULL, NULL};
    return device->index < 0 ? make_properties(device, set, &out->properties)
                             : handle_take(device, &out->handle);
}

static struct cudnn_attribute subject_attribute(const struct subject *subject,
                                                cudnnBackendAttributeName_t handle,
                                                cudnnBackendAttributeName_t properties)
{
    return subject->handle
               ? attribute(handle, CUDNN_TYPE_HANDLE, 1, &subject->handle)
               : attribute(properties, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &subject->properties);
}

/* ---- engine choice --------------------------------------------------------------------------- */

#define CONFIGURATIONS 32 /* looked at of each list of heuristics */
#define ENGINES 512       /* numbers of engines that a list is kept of */

struct search {
    struct cudnn_device *device;
    const struct cudnn *library;
    const struct door_graph *graph;
    const struct door_wish *wish;
    struct cudnn_set set;
    struct subject subject;
    cudnnBackendDescriptor_t graph_descriptor;
    bool products; /* the graph has a convolution or a matrix product: tensor cores matter */
    int limit, count;
    struct cudnn_plan **out;
    /* What became of those that were not taken. */
    int without_cores, with_cores, undetermined, too_large, failed;
    size_t smallest; /* workspace of those too large */
    bool tried[ENGINES];
};

static bool has_products(const struct door_graph *graph)
{
    for (int i = 0; i < graph->node_count; i++) {
        if (graph->nodes[i].kind < DOOR_POINTWISE || graph->nodes[i].kind == DOOR_MATMUL)
            return true;
    }
    return false;
}

/* What an engine says of itself. */
static void engine_info(struct search *s, cudnnBackendDescriptor_t engine,
                        struct door_plan_info *info)
{
    cudnnBackendNumericalNote_t numbers[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    cudnnBackendBehaviorNote_t behaviour[CUDNN_BEHAVIOR_NOTE_TYPE_COUNT];
    int64_t index = -1, count = 0;
    *info = (struct door_plan_info){.deterministic = true};
    s->library->get(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &count, &index);
    info->index = (int)index;
    if (s->library->get(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                        CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, numbers))
        count = 0;
    for (int64_t i = 0; i < count; i++) {
        info->tensor_cores |= numbers[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
        info->deterministic &= numbers[i] != CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    }
    if (s->library->get(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE,
                        CUDNN_BEHAVIOR_NOTE_TYPE_COUNT, &count, behaviour))
        count = 0;
    for (int64_t i = 0; i < count; i++)
        info->compiled |= behaviour[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
}

/* May it be used, before anything is compiled? */
static bool allowed(struct search *s, const struct door_plan_info *info)
{
    if (s->products && s->wish->cores == DOOR_CORES_ONLY && !info->tensor_cores) {
        s->without_cores++;
        return false;
    }
    if (s->products && s->wish->cores == DOOR_CORES_NEVER && info->tensor_cores) {
        s->with_cores++;
        return false;
    }
    if (s->wish->deterministic && !info->deterministic) {
        s->undetermined++;
        return false;
    }
    return true;
}

static int plan_open(const struct cudnn *library, const char *name, struct cudnn_plan **out)
{
    struct cudnn_plan *plan = mem_array(1, sizeof *plan, "a plan");
    if (!plan)
        return -ERR_MEMORY;
    plan->library = library;
    if (!(plan->name = mem_text(name))) {
        cudnn_plan_close(plan);
        return -ERR_MEMORY;
    }
    *out = plan;
    return 0;
}

/* Finalize a plan of CONFIGURATION and keep it if its workspace is allowed. Errors are ERR_MEMORY
 * alone: an engine that cannot is passed over. */
static int consider(struct search *s, cudnnBackendDescriptor_t configuration,
                    const struct door_plan_info *info, const char *source)
{
    struct cudnn_plan *plan = NULL;
    int64_t count, bytes = 0;
    int rc = plan_open(s->library, s->graph->name, &plan);
    if (rc)
        return rc;
    const struct cudnn_attribute attributes[2] = {
        attribute(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                  &configuration),
        subject_attribute(&s->subject, CUDNN_ATTR_EXECUTION_PLAN_HANDLE,
                          CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP)};
    plan->info = *info;
    if (cudnn_set_make(&plan->set, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "plan", attributes, 2,
                       &plan->plan) ||
        s->library->get(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                        &count, &bytes)) {
        s->failed++;
        cudnn_plan_close(plan);
        return 0;
    }
    if ((size_t)bytes > s->wish->workspace_cap) {
        if (!s->too_large++ || (size_t)bytes < s->smallest)
            s->smallest = (size_t)bytes;
        cudnn_plan_close(plan);
        return 0;
    }
    plan->info.workspace_bytes = (size_t)bytes;
    snprintf(plan->info.engine, sizeof plan->info.engine, "cuDNN engine %d%s%s, %s", info->index,
             info->tensor_cores ? ", tensor cores" : "",
             info->compiled ? ", compiled at run time" : "", source);
    cudnn_set_take(&s->set, configuration);
    plan->set.all[plan->set.count++] = configuration;
    s->out[s->count++] = plan;
    return 0;
}

/* Those that MODE's heuristics name, in their order; with PREFER first those with tensor cores. */
static int search_heuristics(struct search *s, cudnnBackendHeurMode_t mode, const char *source)
{
    cudnnBackendDescriptor_t heuristics, list[CONFIGURATIONS], engine;
    struct door_plan_info info[CONFIGURATIONS];
    int64_t count = 0, got;
    int keep = s->set.count;
    const struct cudnn_attribute attributes[3] = {
        attribute(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                  &s->graph_descriptor),
        attribute(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode),
        attribute(CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                  &s->subject.properties)};
    int rc = cudnn_set_make(&s->set, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, source, attributes,
                            s->subject.handle ? 2 : 3, &heuristics);
    for (int i = 0; i < CONFIGURATIONS && !rc; i++)
        rc = cudnn_set_empty(&s->set, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, source, &list[i]);
    if (!rc)
        rc = cudnn_set_empty(&s->set, CUDNN_BACKEND_ENGINE_DESCRIPTOR, source, &engine);
    if (rc || s->library->get(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                              CUDNN_TYPE_BACKEND_DESCRIPTOR, CONFIGURATIONS, &count, list))
        count = 0;
    count = count < CONFIGURATIONS ? count : CONFIGURATIONS;
    for (int64_t i = 0; i < count; i++) {
        s->library->get(list[i], CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                        &got, &engine);
        engine_info(s, engine, &info[i]);
        if (info[i].index >= 0 && info[i].index < ENGINES)
            s->tried[info[i].index] = true;
    }
    rc = 0;
    bool sorted = s->products && s->wish->cores == DOOR_CORES_PREFER;
    for (int pass = 0; pass < (sorted ? 2 : 1); pass++) {
        for (int64_t i = 0; i < count && s->count < s->limit && !rc; i++) {
            bool mine = !sorted || info[i].tensor_cores == (pass == 0);
            if (mine && allowed(s, &info[i]))
                rc = consider(s, list[i], &info[i], source);
        }
    }
    cudnn_set_release(&s->set, keep);
    return rc;
}

/* The last resort: every engine there is, by its number (some that can are named by no list). */
static int search_engines(struct search *s)
{
    int64_t engines = 0, got;
    int keep = s->set.count, rc = 0;
    s->library->get(s->graph_descriptor, CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT,
                    CUDNN_TYPE_INT64, 1, &got, &engines);
    for (int64_t i = 0; i < engines && i < ENGINES && s->count < s->limit && !rc; i++) {
        cudnnBackendDescriptor_t engine, configuration;
        struct door_plan_info info;
        struct cudnn_attribute of_engine[3] = {
            attribute(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                      &s->graph_descriptor),
            attribute(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &i),
            attribute(CUDNN_ATTR_ENGINE_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                      &s->subject.properties)};
        struct cudnn_attribute of_configuration =
            attribute(CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine);
        if (s->tried[i])
            continue;
        if (!cudnn_set_make(&s->set, CUDNN_BACKEND_ENGINE_DESCRIPTOR, "engine", of_engine,
                            s->subject.handle ? 2 : 3, &engine) &&
            !cudnn_set_make(&s->set, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, "configuration",
                            &of_configuration, 1, &configuration)) {
            engine_info(s, engine, &info);
            if (allowed(s, &info))
                rc = consider(s, configuration, &info, "found by number");
        } else {
            s->failed++;
        }
        cudnn_set_release(&s->set, keep);
    }
    return rc;
}

/* The error when nothing was taken: by what part of the wish, or cuDNN's reason. */
static int refused(const struct search *s)
{
    int by_wish = s->too_large + s->without_cores + s->with_cores + s->undetermined;
    const char *reason = cudnn_reasons_best();
    if (!by_wish)
        return err_set(ERR_DEVICE, "%s: cuDNN %zu has no plan for it: %s", s->graph->name,
                       s->library->version(), *reason ? reason : "no engine is offered");
    char least[64] = "";
    if (s->too_large)
        snprintf(least, sizeof least, ", the least %zu", s->smallest);
    return err_set(
        ERR_DEVICE,
        "%s: no plan that is allowed: of the engines, %d ask for more workspace than %zu "
        "bytes%s, %d lack tensor cores, %d need them, %d are not deterministic, %d "
        "cannot do it%s%s",
        s->graph->name, s->too_large, s->wish->workspace_cap, least, s->without_cores,
        s->with_cores, s->undetermined, s->failed, *reason ? ": " : "", reason);
}

/* The operation graph; by a handle, where the device is there. */
static int search_graph(struct search *s)
{
    int rc = cudnn_graph_make(&s->set, s->graph, s->subject.handle, &s->graph_descriptor);
    return rc ? err_add(rc, "%s", s->graph->name) : 0;
}

int cudnn_plans_open(struct cudnn_device *device, const struct door_graph *graph,
                     const struct door_wish *wish, int limit, struct cudnn_plan **out, int *count)
{
    struct search *s = mem_array(1, sizeof *s, "the search for a plan");
    int rc;
    if (!s)
        return -ERR_MEMORY;
    *s = (struct search){.device = device,
                         .library = device->library,
                         .graph = graph,
                         .wish = wish,
                         .products = has_products(graph),
                         .limit = limit,
                         .out = out};
    cudnn_reasons_clear();
    rc = subject_open(device, &s->set, &s->subject);
    if (!rc)
        rc = search_graph(s);
    if (!rc)
        rc = search_heuristics(s, CUDNN_HEUR_MODE_A, "heuristics A");
    if (!rc && !s->count)
        rc = search_heuristics(s, CUDNN_HEUR_MODE_FALLBACK, "fallback");
    if (!rc && !s->count)
        rc = search_engines(s);
    if (!rc && !s->count)
        rc = refused(s);
    while (rc && s->count > 0)
        cudnn_plan_close(out[--s->count]);
    *count = s->count;
    cudnn_set_release(&s->set, 0);
    handle_give(device, s->subject.handle);
    mem_free(s);
    return rc;
}

/* ---- plans ----------------------------------------------------------------------------------- */

void cudnn_plan_close(struct cudnn_plan *plan)
{
    if (!plan)
        return;
    cudnn_set_release(&plan->set, 0);
    mem_free(plan->name);
    mem_free(plan);
}

const struct door_plan_info *cudnn_plan_info(const struct cudnn_plan *plan)
{
    return &plan->info;
}

int cudnn_plan_save(const struct cudnn_plan *plan, char **out)
{
    cudnn_reasons_clear();
    int rc = get_text(plan->library, plan->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                      "saving a plan", out);
    return rc ? err_add(rc, "%s", plan->name) : 0;
}

int cudnn_plan_load(struct cudnn_device *device, const char *name, const char *text,
                    const struct door_plan_info *info, struct cudnn_plan **out)
{
    struct cudnn_set set = {.count = 0};
    struct subject subject = {NULL, NULL};
    struct cudnn_plan *plan = NULL;
    int64_t count, bytes = -1;
    cudnn_reasons_clear();
    int rc = plan_open(device->library, name, &plan);
    if (!rc)
        rc = subject_open(device, &set, &subject);
    if (rc)
        goto done;
    const struct cudnn_attribute attributes[2] = {
        attribute(CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                  (int64_t)strlen(text) + 1, text),
        subject_attribute(&subject, CUDNN_ATTR_EXECUTION_PLAN_HANDLE,
                          CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP)};
    plan->info = *info;
    rc = cudnn_set_make(&plan->set, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "loading a plan",
                        attributes, 2, &plan->plan);
    if (!rc && (device->library->get(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                     CUDNN_TYPE_INT64, 1, &count, &bytes) ||
                (size_t)bytes != info->workspace_bytes))
        rc = err_set(ERR_MISMATCH, "its workspace is not what was saved");
    if (rc) {
        struct err why;
        err_take(rc, &why);
        rc = err_set(ERR_MISMATCH, "%s: the saved plan is not for here: %s", name, why.text);
    }
done:
    cudnn_set_release(&set, 0);
    handle_give(device, subject.handle);
    if (rc)
        cudnn_plan_close(plan);
    else
        *out = plan;
    return rc;
}

int cudnn_plan_run(struct cudnn_device *device, struct cudnn_plan *plan, void *stream,
                   const struct door_pointer *pointers, int count, void *workspace)
{
    int64_t uids[DOOR_MAX_TENSORS];
    void *addresses[DOOR_MAX_TENSORS];
    struct cudnn_set set = {.count = 0};
    cudnnBackendDescriptor_t pack;
    cudnnStatus_t status;
    if (count < 1 || count > DOOR_MAX_TENSORS)
        return err_set(ERR_FAULT, "%s: %d pointers", plan->name, count);
    for (int i = 0; i < count; i++) {
        uids[i] = pointers[i].uid;
        addresses[i] = pointers[i].pointer;
    }
    const struct cudnn_attribute attributes[3] = {
        attribute(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, uids),
        attribute(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, addresses),
        attribute(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace)};
    cudnn_reasons_clear();
    int rc = cudnn_set_make(&set, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, "the pointers of a run",
                            attributes, 3, &pack);
    if (!rc && (status = device->library->set_stream(device->running, stream)))
        rc = cudnn_fail(status, "setting the stream");
    if (!rc && (status = device->library->execute(device->running, plan->plan, pack)))
        rc = cudnn_fail(status, "running a plan");
    cudnn_set_release(&set, 0);
    return rc ? err_add(rc, "%s", plan->name) : 0;
}
