/* A stand-in for libnvidia-ml.so.1 with two GPUs, for machines without one. Structures and codes as in nvml.h.
 *
 * Compile with -DNO_ENERGY or -DNO_PCIE to leave a symbol out, as an old driver would. The second GPU has no ECC memory
 * (NVML_ERROR_NOT_SUPPORTED). Counters move with every call, so a reader can tell two polls apart.
 */
#include <stdio.h>
#include <string.h>

typedef int nvmlReturn_t;
enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3 };
typedef struct { int index; } *nvmlDevice_t;
static struct { int index; } gpus[2] = {{0}, {1}};

nvmlReturn_t nvmlInitWithFlags(unsigned flags) { (void)flags; return OK; }
nvmlReturn_t nvmlInit_v2(void) { return OK; }
nvmlReturn_t nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(nvmlReturn_t code) { return code == NOT_SUPPORTED ? "Not Supported" : "Error"; }
nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return OK; }
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
  if (index > 1) return INVALID;
  *device = (nvmlDevice_t)&gpus[index];
  return OK;
}
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *text, unsigned length) {
  snprintf(text, length, "GPU-00000000-0000-0000-0000-00000000000%d", device->index);
  return OK;
}
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *text, unsigned length) {
  (void)device; snprintf(text, length, "Shim A100"); return OK;
}
typedef struct { unsigned gpu, memory; } nvmlUtilization_t;
nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *out) {
  out->gpu = 40 + 10 * device->index; out->memory = 7; return OK;
}
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;
nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *out) {
  (void)device; out->total = 80ull << 30; out->used = 20ull << 30; out->free = out->total - out->used; return OK;
}
nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *milliwatt) { (void)device; *milliwatt = 250000; return OK; }
#ifndef NO_ENERGY
nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *millijoule) {
  static unsigned long long total[2] = {1000000, 5000000};
  *millijoule = total[device->index] += 250000;
  return OK;
}
#endif
nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned *celsius) {
  (void)device; if (sensor) return INVALID; *celsius = 65; return OK;
}
typedef struct { unsigned version; int sensor; int temperature; } nvmlTemperature_t;
nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_t *out) {
  (void)device; out->temperature = 65; return OK;
}
nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, int type, unsigned *mhz) {
  (void)device; if (type != 1) return INVALID; *mhz = 1410; return OK;
}
/* Only the name of old drivers: the reader has to fall back. */
nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *reasons) {
  *reasons = device->index ? 0x40 | 0x8 : 0x4; return OK;
}
#ifndef NO_PCIE
nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, int counter, unsigned *kib) {
  (void)device; *kib = counter ? 2048 : 1024; return OK; /* 0 is transmit, 1 is receive */
}
#endif
nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, int type, int counter, unsigned long long *count) {
  if (counter) return INVALID;
  if (device->index) return NOT_SUPPORTED;
  *count = type ? 1 : 12;
  return OK;
}
