/* A libnvidia-ml.so.1 for tests: answers what a scenario file says.
 *
 * RISEML_NVML_SCENARIO names the file; it is read again whenever it changed. Lines, in any order, later ones win:
 *
 *   driver 550.54.15             version of the driver
 *   devices 8                    how many GPUs the driver counts
 *   gpu 3 KEY VALUE              a property of one GPU; `gpu * KEY VALUE` of all
 *   gpu 3 process PID BYTES      a compute process (adds up); graphics_process likewise
 *   gpu 3 link LINK GPU          that NVLink leads straight to another GPU; all others lead to the switches
 *   event SERIAL XID GPU         an XID; told once, in the order of serials, if it is newer than nvmlInit.
 *                                After 79 the GPU is lost.
 *   hang FUNCTION                calls of it block until the line is gone
 *   fail FUNCTION CODE           calls of it return this nvmlReturn_t
 *
 * Keys: those of `struct gpu` below. `unsupported NAME` makes a GPU answer NOT_SUPPORTED to functions whose name has
 * NAME in it.
 * With -DOLD_DRIVER the functions that came after driver 390 are not there at all.
 *
 * Signatures and structures follow nvidia-ml-py's pynvml.py. */
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    INSUFFICIENT_SIZE = 7,
    TIMEOUT = 10,
    GPU_IS_LOST = 15,
    MAX_GPUS = 16,
    MAX_PROCESSES = 16,
    MAX_EVENTS = 64,
    MAX_RULES = 16,
    MAX_LINKS = 36,
    TO_GPU = 0,
    TO_SWITCH = 2,
    NAME_BYTES = 96,
    FELL_OFF_THE_BUS = 79,
};
#define XID_EVENT 0x8ULL
#define API __attribute__((visibility("default")))
typedef int status;

struct process {
    unsigned pid;
    unsigned long long bytes;
};

struct gpu {
    unsigned index;
    char name[NAME_BYTES], uuid[NAME_BYTES], unsupported[4][NAME_BYTES];
    unsigned unsupported_count;
    unsigned long long lost, reset_required, unreadable, total, used, reserved, utilization, power, power_limit,
        temperature, slowdown, shutdown, ecc_corrected, ecc_uncorrected, remap_pending, remap_failed, pcie_generation,
        pcie_width, pcie_max_generation, pcie_max_width, pcie_replays, nvlinks, nvlink_errors, clock_events, recovery,
        mig, numa, pcie_switch, host_bridge;
    int peers[MAX_LINKS]; /* where each NVLink leads to; -1: a switch */
    struct process compute[MAX_PROCESSES], graphics[MAX_PROCESSES];
    unsigned compute_count, graphics_count;
};

static const struct {
    const char *key;
    size_t offset;
} KEYS[] = {
#define KEY(name) {#name, offsetof(struct gpu, name)}
    KEY(lost), KEY(reset_required), KEY(unreadable), KEY(total), KEY(used), KEY(reserved), KEY(utilization), KEY(power),
    KEY(power_limit), KEY(temperature), KEY(slowdown), KEY(shutdown), KEY(ecc_corrected), KEY(ecc_uncorrected),
    KEY(remap_pending), KEY(remap_failed), KEY(pcie_generation), KEY(pcie_width), KEY(pcie_max_generation),
    KEY(pcie_max_width), KEY(pcie_replays), KEY(nvlinks), KEY(nvlink_errors), KEY(clock_events), KEY(recovery),
    KEY(mig), KEY(numa), KEY(pcie_switch), KEY(host_bridge),
#undef KEY
};

struct event {
    unsigned long long serial, xid;
    unsigned gpu;
};

struct rule {
    char function[NAME_BYTES];
    int code; /* 0: hangs */
};

static struct scenario {
    char driver[NAME_BYTES];
    unsigned devices, event_count, rule_count;
    struct gpu gpus[MAX_GPUS];
    struct event events[MAX_EVENTS];
    struct rule rules[MAX_RULES];
} now;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long long delivered; /* serial of the last event that was */
static bool fallen[MAX_GPUS];        /* by XID 79, until the process ends */
static bool open_;

/* ---- the scenario ---- */

static void set_defaults(struct scenario *s) {
    memset(s, 0, sizeof *s);
    snprintf(s->driver, sizeof s->driver, "550.54.15");
    s->devices = 8;
    for (unsigned i = 0; i < MAX_GPUS; i++) {
        struct gpu *g = &s->gpus[i];
        g->index = i;
        snprintf(g->name, sizeof g->name, "NVIDIA H100 80GB HBM3");
        snprintf(g->uuid, sizeof g->uuid, "GPU-57ab0000-0000-0000-0000-%012x", i);
        g->total = 85520809984ULL;
        g->reserved = 471859200ULL;
        g->power = 71000 + i;
        g->power_limit = 700000;
        g->temperature = 30 + i;
        g->slowdown = 87;
        g->shutdown = 92;
        g->pcie_generation = g->pcie_max_generation = 5;
        g->pcie_width = g->pcie_max_width = 16;
        g->nvlinks = 18;
        g->clock_events = 1; /* idle */
        g->numa = g->host_bridge = i / 4;
        g->pcie_switch = i / 2;
        for (unsigned link = 0; link < MAX_LINKS; link++)
            g->peers[link] = -1;
    }
}

static void set_property(struct gpu *g, const char *key, const char *value) {
    unsigned pid, link, peer;
    unsigned long long bytes;
    if (strcmp(key, "name") == 0)
        snprintf(g->name, sizeof g->name, "%s", value);
    else if (strcmp(key, "uuid") == 0)
        snprintf(g->uuid, sizeof g->uuid, "%s", value);
    else if (strcmp(key, "unsupported") == 0 && g->unsupported_count < 4)
        snprintf(g->unsupported[g->unsupported_count++], NAME_BYTES, "%s", value);
    else if (strcmp(key, "process") == 0 && sscanf(value, "%u %llu", &pid, &bytes) == 2) {
        if (g->compute_count < MAX_PROCESSES)
            g->compute[g->compute_count++] = (struct process){pid, bytes};
    } else if (strcmp(key, "graphics_process") == 0 && sscanf(value, "%u %llu", &pid, &bytes) == 2) {
        if (g->graphics_count < MAX_PROCESSES)
            g->graphics[g->graphics_count++] = (struct process){pid, bytes};
    } else if (strcmp(key, "link") == 0 && sscanf(value, "%u %u", &link, &peer) == 2) {
        if (link < MAX_LINKS && peer < MAX_GPUS)
            g->peers[link] = (int)peer;
    }
    for (size_t k = 0; k < sizeof KEYS / sizeof KEYS[0]; k++)
        if (strcmp(key, KEYS[k].key) == 0)
            *(unsigned long long *)((char *)g + KEYS[k].offset) = strtoull(value, NULL, 0);
}

static void parse_line(struct scenario *s, char *line) {
    char which[8], key[NAME_BYTES], value[NAME_BYTES];
    struct event event;
    struct rule rule = {.code = 0};
    line[strcspn(line, "#\n")] = 0;
    if (sscanf(line, "gpu %7s %95s %95[^\n]", which, key, value) == 3) {
        for (unsigned i = 0; i < MAX_GPUS; i++)
            if (which[0] == '*' || (unsigned)atoi(which) == i)
                set_property(&s->gpus[i], key, value);
    } else if (sscanf(line, "event %llu %llu %u", &event.serial, &event.xid, &event.gpu) == 3) {
        if (s->event_count < MAX_EVENTS && event.gpu < MAX_GPUS)
            s->events[s->event_count++] = event;
    } else if (sscanf(line, "hang %95s", rule.function) == 1 ||
               sscanf(line, "fail %95s %d", rule.function, &rule.code) == 2) {
        if (s->rule_count < MAX_RULES)
            s->rules[s->rule_count++] = rule;
    } else if (sscanf(line, "devices %u", &s->devices) != 1)
        (void)sscanf(line, "driver %95s", s->driver);
}

/* Reads the scenario again if it is another file than before. Under the lock. */
static void refresh(void) {
    static struct stat seen;
    const char *path = getenv("RISEML_NVML_SCENARIO");
    struct stat st;
    if (path == NULL || stat(path, &st) != 0) {
        if (now.driver[0] == 0)
            set_defaults(&now);
        return;
    }
    if (st.st_ino == seen.st_ino && st.st_size == seen.st_size && st.st_mtim.tv_sec == seen.st_mtim.tv_sec &&
        st.st_mtim.tv_nsec == seen.st_mtim.tv_nsec)
        return;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return;
    seen = st;
    set_defaults(&now);
    char line[512];
    while (fgets(line, sizeof line, file) != NULL)
        parse_line(&now, line);
    fclose(file);
}

static void nap(long milliseconds) {
    nanosleep(&(struct timespec){milliseconds / 1000, milliseconds % 1000 * 1000000}, NULL);
}

/* What every call does first: applies `hang` and `fail`. Leaves the lock held on SUCCESS. */
static status begin(const char *function) {
    for (;;) {
        bool hangs = false;
        pthread_mutex_lock(&lock);
        refresh();
        for (unsigned i = 0; i < now.rule_count; i++) {
            if (strcmp(now.rules[i].function, function) != 0)
                continue;
            if (now.rules[i].code != 0) {
                pthread_mutex_unlock(&lock);
                return now.rules[i].code;
            }
            hangs = true;
        }
        if (!hangs)
            return SUCCESS;
        pthread_mutex_unlock(&lock);
        nap(10);
    }
}

static status end(status result) {
    pthread_mutex_unlock(&lock);
    return result;
}

/* The same for calls about one GPU, whose state may answer for it. */
static status begin_gpu(const char *function, const void *device) {
    status result = begin(function);
    if (result != SUCCESS)
        return result;
    if (!open_)
        return end(UNINITIALIZED);
    const struct gpu *g = device;
    if (g == NULL || g < now.gpus || g >= now.gpus + MAX_GPUS)
        return end(INVALID_ARGUMENT);
    if (g->lost || fallen[g->index])
        return end(GPU_IS_LOST);
    if (g->reset_required)
        return end(16);
    if (g->unreadable)
        return end(999);
    for (unsigned i = 0; i < g->unsupported_count; i++)
        if (strstr(function, g->unsupported[i]) != NULL)
            return end(NOT_SUPPORTED);
    return SUCCESS;
}

#define BEGIN \
    { \
        status begun = begin(__func__); \
        if (begun != SUCCESS) \
            return begun; \
    }
#define BEGIN_GPU \
    { \
        status begun = begin_gpu(__func__, g); \
        if (begun != SUCCESS) \
            return begun; \
    }
/* A function that answers one number about a GPU. */
#define NUMBER(function, type, expression) \
    API status function(struct gpu *g, type *answer) { \
        BEGIN_GPU \
        *answer = (type)(expression); \
        return end(SUCCESS); \
    }

/* ---- the library ---- */

API status nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    BEGIN
    if (!open_)
        for (unsigned i = 0; i < now.event_count; i++) { /* nobody is told of what was before */
            const struct event *e = &now.events[i];
            delivered = e->serial > delivered ? e->serial : delivered;
            fallen[e->gpu] |= e->xid == FELL_OFF_THE_BUS;
        }
    open_ = true;
    return end(SUCCESS);
}

API status nvmlShutdown(void) {
    BEGIN
    open_ = false;
    return end(SUCCESS);
}

API const char *nvmlErrorString(status code) {
    switch (code) {
    case NOT_SUPPORTED:
        return "Not Supported";
    case 9:
        return "Driver Not Loaded";
    case GPU_IS_LOST:
        return "GPU is lost";
    case 18:
        return "Driver/library version mismatch";
    default:
        return "Unknown Error";
    }
}

API status nvmlSystemGetDriverVersion(char *version, unsigned length) {
    BEGIN
    snprintf(version, length, "%s", now.driver);
    return end(SUCCESS);
}

API status nvmlDeviceGetCount_v2(unsigned *count) {
    BEGIN
    *count = now.devices;
    return end(SUCCESS);
}

API status nvmlDeviceGetHandleByIndex_v2(unsigned index, struct gpu **device) {
    BEGIN
    if (index >= now.devices || index >= MAX_GPUS)
        return end(INVALID_ARGUMENT);
    if (now.gpus[index].lost || fallen[index])
        return end(GPU_IS_LOST);
    *device = &now.gpus[index];
    return end(SUCCESS);
}

API status nvmlDeviceGetUUID(struct gpu *g, char *uuid, unsigned length) {
    BEGIN_GPU
    snprintf(uuid, length, "%s", g->uuid);
    return end(SUCCESS);
}

API status nvmlDeviceGetName(struct gpu *g, char *name, unsigned length) {
    BEGIN_GPU
    snprintf(name, length, "%s", g->name);
    return end(SUCCESS);
}

struct pci_info {
    char legacy_bus_id[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
};

static void set_pci(struct pci_info *pci, unsigned bus) {
    memset(pci, 0, sizeof *pci);
    pci->bus = bus;
    snprintf(pci->bus_id, sizeof pci->bus_id, "0000FA00:%02X:00.0", bus);
}

API status nvmlDeviceGetPciInfo_v3(struct gpu *g, struct pci_info *pci) {
    BEGIN_GPU
    set_pci(pci, 0x10 + g->index);
    return end(SUCCESS);
}

API status nvmlDeviceGetTopologyCommonAncestor(struct gpu *g, struct gpu *other, int *level) {
    BEGIN_GPU
    if (g->pcie_switch == other->pcie_switch)
        *level = 10;
    else if (g->host_bridge == other->host_bridge)
        *level = 30;
    else
        *level = g->numa == other->numa ? 40 : 50;
    return end(SUCCESS);
}

struct memory {
    unsigned long long total, free, used;
};

API status nvmlDeviceGetMemoryInfo(struct gpu *g, struct memory *memory) {
    BEGIN_GPU
    memory->total = g->total;
    memory->used = g->used + g->reserved;
    memory->free = g->total - memory->used;
    return end(SUCCESS);
}

struct utilization {
    unsigned gpu, memory;
};

API status nvmlDeviceGetUtilizationRates(struct gpu *g, struct utilization *rates) {
    BEGIN_GPU
    rates->gpu = (unsigned)g->utilization;
    rates->memory = (unsigned)g->utilization / 2;
    return end(SUCCESS);
}

API status nvmlDeviceGetTemperature(struct gpu *g, int sensor, unsigned *celsius) {
    BEGIN_GPU
    if (sensor != 0)
        return end(INVALID_ARGUMENT);
    *celsius = (unsigned)g->temperature;
    return end(SUCCESS);
}

API status nvmlDeviceGetTemperatureThreshold(struct gpu *g, int which, unsigned *celsius) {
    BEGIN_GPU
    if (which != 0 && which != 1)
        return end(NOT_SUPPORTED);
    *celsius = (unsigned)(which == 0 ? g->shutdown : g->slowdown);
    return end(SUCCESS);
}

API status nvmlDeviceGetTotalEccErrors(struct gpu *g, int kind, int counter, unsigned long long *count) {
    BEGIN_GPU
    if (counter != 0)
        return end(INVALID_ARGUMENT);
    *count = kind == 0 ? g->ecc_corrected : g->ecc_uncorrected;
    return end(SUCCESS);
}

NUMBER(nvmlDeviceGetPowerUsage, unsigned, g->power)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, unsigned, g->power_limit)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, unsigned, g->pcie_generation)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, unsigned, g->pcie_width)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, unsigned, g->pcie_max_generation)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, unsigned, g->pcie_max_width)
NUMBER(nvmlDeviceGetPcieReplayCounter, unsigned, g->pcie_replays)
NUMBER(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, g->clock_events)

#ifndef OLD_DRIVER

NUMBER(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, g->clock_events)
NUMBER(nvmlDeviceGetSupportedEventTypes, unsigned long long, XID_EVENT)

struct temperature {
    unsigned version;
    int sensor, celsius;
};

API status nvmlDeviceGetTemperatureV(struct gpu *g, struct temperature *temperature) {
    BEGIN_GPU
    if (temperature->version != 0x100000C || temperature->sensor != 0)
        return end(INVALID_ARGUMENT);
    temperature->celsius = (int)g->temperature;
    return end(SUCCESS);
}

struct memory_v2 {
    unsigned version;
    unsigned long long total, reserved, free, used;
};

API status nvmlDeviceGetMemoryInfo_v2(struct gpu *g, struct memory_v2 *memory) {
    BEGIN_GPU
    if (memory->version != 0x02000028)
        return end(25);
    memory->total = g->total;
    memory->reserved = g->reserved;
    memory->used = g->used;
    memory->free = g->total - g->reserved - g->used;
    return end(SUCCESS);
}

API status nvmlDeviceGetMigMode(struct gpu *g, unsigned *current, unsigned *pending) {
    BEGIN_GPU
    *current = *pending = (unsigned)g->mig;
    return end(SUCCESS);
}

API status nvmlDeviceGetRemappedRows(struct gpu *g, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
                                     unsigned *failed) {
    BEGIN_GPU
    *corrected = *uncorrected = 0;
    *pending = (unsigned)g->remap_pending;
    *failed = (unsigned)g->remap_failed;
    return end(SUCCESS);
}

API status nvmlDeviceGetMemoryAffinity(struct gpu *g, unsigned size, unsigned long *nodes, unsigned scope) {
    BEGIN_GPU
    if (size < 1 || scope != 0)
        return end(INVALID_ARGUMENT);
    nodes[0] = 1UL << g->numa;
    return end(SUCCESS);
}

API status nvmlDeviceGetNvLinkState(struct gpu *g, unsigned link, unsigned *active) {
    BEGIN_GPU
    *active = link < g->nvlinks;
    return end(SUCCESS);
}

API status nvmlDeviceGetNvLinkRemoteDeviceType(struct gpu *g, unsigned link, int *type) {
    BEGIN_GPU
    if (link >= g->nvlinks)
        return end(INVALID_ARGUMENT);
    *type = g->peers[link] < 0 ? TO_SWITCH : TO_GPU;
    return end(SUCCESS);
}

/* Four switches, each with links to every GPU. */
API status nvmlDeviceGetNvLinkRemotePciInfo_v2(struct gpu *g, unsigned link, struct pci_info *pci) {
    BEGIN_GPU
    if (link >= g->nvlinks)
        return end(INVALID_ARGUMENT);
    set_pci(pci, g->peers[link] < 0 ? 0xA0 + link % 4 : 0x10 + (unsigned)g->peers[link]);
    return end(SUCCESS);
}

struct process_info {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
};

static status list(const struct process *from, unsigned have, unsigned *count, struct process_info *to) {
    unsigned room = *count;
    *count = have;
    if (have > room)
        return end(INSUFFICIENT_SIZE);
    for (unsigned i = 0; i < have; i++)
        to[i] = (struct process_info){from[i].pid, from[i].bytes, ~0U, ~0U};
    return end(SUCCESS);
}

API status nvmlDeviceGetComputeRunningProcesses_v3(struct gpu *g, unsigned *count, struct process_info *infos) {
    BEGIN_GPU
    return list(g->compute, g->compute_count, count, infos);
}

API status nvmlDeviceGetGraphicsRunningProcesses_v3(struct gpu *g, unsigned *count, struct process_info *infos) {
    BEGIN_GPU
    return list(g->graphics, g->graphics_count, count, infos);
}

API status nvmlDeviceGetMPSComputeRunningProcesses_v3(struct gpu *g, unsigned *count, struct process_info *infos) {
    BEGIN_GPU
    return list(NULL, 0, count, infos);
}

struct field_value {
    unsigned field, scope;
    long long timestamp, latency;
    unsigned type;
    status result;
    union {
        double d;
        unsigned u;
        unsigned long long ull;
    } value;
};

/* As on a Hopper: NVLink errors per link (161 to 163), not in total (38, 45, 52, 59). */
API status nvmlDeviceGetFieldValues(struct gpu *g, int count, struct field_value *values) {
    BEGIN_GPU
    for (int i = 0; i < count; i++) {
        struct field_value *v = &values[i];
        v->result = SUCCESS;
        v->type = 3;
        if (v->field == 91)
            v->type = 1, v->value.u = (unsigned)g->nvlinks;
        else if (v->field == 161 && v->scope < g->nvlinks)
            v->value.ull = v->scope == 0 ? g->nvlink_errors : 0;
        else if ((v->field == 162 || v->field == 163) && v->scope < g->nvlinks)
            v->value.ull = 0;
        else if (v->field == 230)
            v->type = 1, v->value.u = (unsigned)g->recovery;
        else
            v->result = NOT_SUPPORTED;
    }
    return end(SUCCESS);
}

/* ---- events ---- */

struct event_set {
    bool registered[MAX_GPUS];
};

struct event_data {
    struct gpu *device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
};

API status nvmlEventSetCreate(struct event_set **set) {
    BEGIN
    *set = calloc(1, sizeof **set);
    return end(SUCCESS);
}

API status nvmlEventSetFree(struct event_set *set) {
    BEGIN
    free(set);
    return end(SUCCESS);
}

API status nvmlDeviceRegisterEvents(struct gpu *g, unsigned long long kinds, struct event_set *set) {
    BEGIN_GPU
    if (kinds != XID_EVENT)
        return end(NOT_SUPPORTED);
    set->registered[g->index] = true;
    return end(SUCCESS);
}

/* Like the real one: with a lost GPU in the set, the wait fails at once, whatever else there would be to tell. */
API status nvmlEventSetWait_v2(struct event_set *set, struct event_data *data, unsigned milliseconds) {
    for (unsigned waited = 0;; waited += 10) {
        BEGIN
        for (unsigned i = 0; i < MAX_GPUS; i++)
            if (set->registered[i] && (fallen[i] || now.gpus[i].lost))
                return end(GPU_IS_LOST);
        const struct event *next = NULL;
        for (unsigned i = 0; i < now.event_count; i++)
            if (now.events[i].serial > delivered && (next == NULL || now.events[i].serial < next->serial))
                next = &now.events[i];
        if (next != NULL) {
            delivered = next->serial;
            if (next->xid == FELL_OFF_THE_BUS)
                fallen[next->gpu] = true;
            *data = (struct event_data){&now.gpus[next->gpu], XID_EVENT, next->xid, ~0U, ~0U};
            return end(SUCCESS);
        }
        (void)end(SUCCESS);
        if (waited >= milliseconds)
            return TIMEOUT;
        nap(10);
    }
}

#endif
