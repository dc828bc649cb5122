/* The C interface of InfoBatch: the whole engine behind plain functions.
 *
 * Conventions. Every function that can fail returns an `ib_status`; on failure nothing was changed
 * and ib_last_error() tells, for the calling thread, which function, which rule and which value.
 * Structs that may grow begin with `struct_size`, the caller's sizeof, and grow at their end with 0
 * as the default: a program compiled against an older header works with a newer library of the same
 * IB_ABI_VERSION, and a newer program with an older library as long as it leaves what that library
 * does not know at 0; else the call is refused.
 * Calls on one session may come from any thread and wait for one another; different sessions are
 * independent. Text and bytes that a function lends are for the thread that called it.
 *
 *     ib_config config;
 *     ib_config_init(&config, sizeof config);
 *     config.epochs = 200;
 *     ib_session* session;
 *     ib_session_create(50000, &config, 0, &session);
 *     ib_session_begin(session);                           // the loop begins an epoch
 *     ib_slice batch;
 *     for (;;) {
 *       if (ib_session_next(session, 128, &batch) != IB_OK) return fail(ib_last_error());
 *       if (batch.count == 0) break;                       // the end of the epoch
 *       ... losses of batch.ids[0 .. count) ...
 *       ib_session_update(session, losses, batch.count, IB_MEAN, &loss);
 *     }
 */
#ifndef INFOBATCH_C_API_H_
#define INFOBATCH_C_API_H_

#include <infobatch/export.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Changes only when a program has to be compiled anew; compare with ib_abi_version(). */
#define IB_ABI_VERSION 1

typedef enum ib_status {
  IB_OK = 0,
  IB_INVALID_ARGUMENT = 1, /**< an argument or option breaks its rule */
  IB_INDEX_ERROR = 2,      /**< a sample id outside the data set or the plan */
  IB_STATE_ERROR = 3,      /**< the call does not fit the state of the session */
  IB_FILE_ERROR = 4,       /**< a file cannot be read or written, or is damaged */
  IB_OUT_OF_MEMORY = 5,
  IB_INTERNAL_ERROR = 6
} ib_status;

typedef enum ib_reduction {
  IB_MEAN = 0,         /**< sum(w * loss) / count */
  IB_SUM = 1,          /**< sum(w * loss) */
  IB_NONE = 2,         /**< w * loss of each sample */
  IB_WEIGHTED_MEAN = 3 /**< sum(w * loss) / sum(w) */
} ib_reduction;

/** What the caller says of its loader. */
typedef enum ib_declared { IB_UNDECLARED = 0, IB_YES = 1, IB_NO = 2 } ib_declared;

/** Type of the values of a column. */
typedef enum ib_column_type {
  IB_FLOAT32 = 0,
  IB_FLOAT64 = 1,
  IB_FLOAT16 = 2,
  IB_BFLOAT16 = 3,
  IB_INT8 = 4,
  IB_INT16 = 5,
  IB_INT32 = 6,
  IB_INT64 = 7,
  IB_UINT8 = 8,
  IB_UINT16 = 9,
  IB_UINT32 = 10,
  IB_UINT64 = 11
} ib_column_type;

/** A run: scores, plan, position. */
typedef struct ib_session ib_session;
/** The plan of one epoch, immutable, counted references. */
typedef struct ib_plan ib_plan;

/** The options; their rules and defaults are those of infobatch/config.hpp. */
typedef struct ib_config {
  size_t struct_size;
  int64_t epochs;
  double prune_ratio;
  double delta;
  int64_t warmup;
  uint64_t seed;
  const char* policy; /**< borrowed until ib_session_create returns, as all pointers here */
  const char* keep;
  int32_t rescale;          /**< 0 or 1 */
  int32_t has_target_saved; /**< 0 or 1 */
  double target_saved;
  double max_prune_ratio;
  const double* quantiles; /**< NULL: the default */
  size_t quantiles_count;
  const double* quantile_keep; /**< NULL: the default */
  size_t quantile_keep_count;
  double score_ema;
  int64_t whole_batches; /**< 0: plans of any size */
  int32_t drop_last;     /**< an ib_declared */
  int32_t lookahead;     /**< 0 or 1 */
  /** NULL, or a JSON object {"name": value, ...} of options by name, parameters of policies among
   *  them; they win over the fields above. ib_cards_json() lists what there is. */
  const char* params_json;
} ib_config;

/** A part of a plan; the pointers live as long as the plan (see ib_session_plan), at least until
 *  the next call on the session that begins another epoch. */
typedef struct ib_slice {
  const int64_t* ids;   /**< [count] */
  const float* weights; /**< [count] */
  int64_t begin;        /**< position of the first sample in the plan */
  int64_t count;
} ib_slice;

/** Figures of an epoch and of the run so far: see infobatch/statistics.hpp. */
typedef struct ib_statistics {
  size_t struct_size;
  int64_t epoch;
  int64_t size;
  int32_t planned;
  int32_t prunes;
  int64_t kept;
  int64_t pruned;
  int64_t candidates;
  double prune_ratio;
  int64_t observed;
  double mean_score; /**< NaN while there is no score */
  int64_t samples_full;
  int64_t samples_planned;
  double saved;
  double promised_saved; /**< NaN without a target */
  double actual_saved;
  int64_t non_finite_epoch;
  int64_t non_finite_total;
  int64_t short_batch;   /**< samples of a last batch that whole_batches could not make whole */
  int64_t dropped_total; /**< losses of unsound epochs that were not taken over */
} ib_statistics;

/** The arrays of an epoch, lent: ids and weights to read, losses to write by position. They live
 *  until the next call on the session that begins another epoch or loads a state. Losses may be
 *  written until then, also behind ib_session_length and ib_session_plan. */
typedef struct ib_epoch_arrays {
  size_t struct_size;
  int64_t epoch;
  int64_t size;         /**< K */
  const int64_t* ids;   /**< [K] in the order of delivery */
  const float* weights; /**< [K] */
  float* losses;        /**< [K] staged losses; the bit pattern 0x7fc00002 stands for none */
} ib_epoch_arrays;

/** A column as it lies in memory, which never moves while the session lives. */
typedef struct ib_column {
  size_t struct_size;
  int32_t type;     /**< an ib_column_type */
  int64_t size;     /**< N */
  const void* data; /**< [N] */
} ib_column;

/** What the last load on a session found. */
typedef struct ib_load_report {
  size_t struct_size;
  int64_t epoch;       /**< the epoch that goes on */
  int64_t position;    /**< samples of it that were already observed */
  const char* changes; /**< options that differ and may, one a line; lives until the next load */
} ib_load_report;

/** How the samples of an epoch get to the ranks of a distributed run. */
typedef enum ib_split {
  IB_SHARDED = 0, /**< the session deals them: it delivers the share of its rank */
  IB_GLOBAL = 1   /**< a framework does: every session delivers all, and losses come by ids */
} ib_split;

/** What becomes of a share that is shorter than others. */
typedef enum ib_padding {
  IB_PAD = 0, /**< one row more: another rank's sample, with weight 0, its loss not recorded */
  IB_TRIM = 1 /**< what would make shares longer than others is left out */
} ib_padding;

/** Which part of a distributed run a session is. */
typedef struct ib_ranks {
  size_t struct_size;
  int32_t rank;    /**< [0, size) */
  int32_t size;    /**< at least 1 */
  int32_t split;   /**< an ib_split */
  int32_t padding; /**< an ib_padding */
} ib_ranks;

/** A session's part of a table that is larger than one session may hold. Sample i of the session is
 *  sample first + i of the table. */
typedef struct ib_id_range {
  size_t struct_size;
  int64_t first; /**< a multiple of 2048 */
  int64_t total; /**< samples of the whole table, at most 2^53 */
  int32_t rank;  /**< of the session that holds this part, in the order of the ranges */
  int32_t ranks; /**< at least 1 */
} ib_id_range;

/** Gathers the bytes of all ranks: `all` [ranks * bytes] receives them in the order of the ranks.
 *  @return 0; anything else fails the call that asked for it, which has then changed nothing. */
typedef int32_t (*ib_gather)(const void* own, size_t bytes, void* all, void* user_data);

/** What a rank tells all others before losses are exchanged. It may be sent as the bytes it is;
 *  what its fields mean is in infobatch/session.hpp, RankReport. */
typedef struct ib_rank_report {
  size_t struct_size;
  int64_t rank;
  int64_t ranks;
  int64_t split;
  int64_t padding;
  int64_t rule_version;
  int64_t size;
  uint64_t seed;
  uint64_t config;
  uint64_t scores;
  int64_t epoch;
  int64_t target;
  int64_t begun;
  int64_t stays;
  int64_t kept;
  uint64_t plan;
  int64_t origin;
  int64_t observed;
  int64_t entering;
  int64_t over;
} ib_rank_report;

/** What a rank knows of the rows of its share. They live as ib_epoch_arrays. */
typedef struct ib_rank_rows {
  size_t struct_size;
  int64_t rows;         /**< 0: one rank alone, or IB_GLOBAL */
  const float* weights; /**< [rows] sum of the weights that all ranks have in a row */
  int64_t short_rows;   /**< rows in which ranks have padding: 0 to 2 */
  int64_t row[2];
  int64_t missing[2]; /**< ranks that have padding there: the last ones */
} ib_rank_rows;

/** What messages and warnings of a session call the functions that they name as cures. Texts are
 *  copied; NULL leaves what is set. */
typedef struct ib_wording {
  size_t struct_size;
  const char* update;        /**< at first "ib_session_update" */
  const char* update_by_ids; /**< at first "ib_session_observe_ids" */
  const char* ids_hint;      /**< what follows it: where the ids come from; at first "" */
  const char* discard;       /**< at first "ib_session_discard_epoch" */
} ib_wording;

/** What a run may be warned of, each kind once. */
typedef enum ib_warning_kind {
  IB_NEVER_PRUNES = 0, /**< no epoch of the run leaves samples out */
  IB_FORGOTTEN = 1,    /**< an epoch was delivered and no loss came back */
  IB_UNSOUND = 2,      /**< losses were dropped, because an epoch did not end as it should */
  IB_NON_FINITE = 3,   /**< losses were NaN or infinite */
  IB_SHORTFALL = 4,    /**< the promised fraction was not saved */
  IB_NOT_FLUSHED = 5   /**< the file system cannot flush */
} ib_warning_kind;

/** A warning that waited. */
typedef struct ib_warning {
  size_t struct_size;
  int32_t kind;     /**< an ib_warning_kind */
  const char* text; /**< NULL: none waits; lives until the calling thread's next one */
} ib_warning;

/** Receives a warning; `text` lives until the function returns. */
typedef void (*ib_warning_handler)(const char* text, void* user_data);

/* --- library ------------------------------------------------------------------------------- */

INFOBATCH_API int32_t ib_abi_version(void);
/** "0.1.0" */
INFOBATCH_API const char* ib_version(void);
/** What was wrong with the calling thread's last failed call; "" before the first. Lives until the
 *  thread's next failed call. */
INFOBATCH_API const char* ib_last_error(void);
/** The same text without the name of the function, for a binding that puts its own before it: rule,
 *  value and cure. Lives as long. */
INFOBATCH_API const char* ib_last_reason(void);
/** Version of the rules that make a plan; a saved state is accepted only by the one that wrote it.
 */
INFOBATCH_API int32_t ib_rule_version(void);
/** Names of the policies in a NULL-terminated array that lives for ever. */
INFOBATCH_API const char* const* ib_policy_names(void);

/* --- options ------------------------------------------------------------------------------- */

/** Every option (name, kind, default, range, meaning) and every policy with its card, as JSON: see
 *  infobatch/card.hpp. Lives for ever; NULL where there is no memory for it. */
INFOBATCH_API const char* ib_cards_json(void);

/** Fills in the defaults. @param struct_size  sizeof(ib_config) of the caller. */
INFOBATCH_API void ib_config_init(ib_config* config, size_t struct_size);
/** Every broken rule of the options in one message; IB_OK when there is none. */
INFOBATCH_API ib_status ib_config_validate(const ib_config* config);
/** Every broken rule of options given as JSON, of a size and of a number of threads, as a JSON
 * array of texts; "[]" when there is none. Lives until the calling thread's next call of this
 * function.
 *  @return IB_OK also where there are problems. */
INFOBATCH_API ib_status ib_config_problems_json(const char* config_json,
                                                int64_t size,
                                                int32_t threads,
                                                const char** problems);

/* --- devices ------------------------------------------------------------------------------- */

/** Loads the library of a device ("libinfobatch_cuda.so", or a path), so that sessions can be made
 *  for it. It stays loaded; loading it again changes nothing.
 *  @param name  receives the name of its backend, "cuda"; lives for ever. NULL: not wanted.
 *  @return IB_INVALID_ARGUMENT with the reason: no such file, another release, no driver, no device
 *          that it can use. */
INFOBATCH_API ib_status ib_load_backend(const char* library, const char** name);
/** The names of the backends there are, "cpu" first: one for each index, then NULL. */
INFOBATCH_API const char* ib_backend_name(int32_t index);
/** What torch calls the devices of a backend, "cuda"; NULL where it has none, as the processor's,
 * or there is no such index. */
INFOBATCH_API const char* ib_backend_device(int32_t index);
/** From now on boundaries that the calling thread brings about on this backend work on this stream
 *  of the device (a cudaStream_t), behind what is already on it.
 *  @param stream  NULL, as before the first call: they wait for all of the device's work. */
INFOBATCH_API ib_status ib_use_stream(const char* backend, void* stream);

/** The step of a loop on a device: losses of a batch written down as scores, weighed, reduced, and
 *  the gradient scaled, by its kernels. All pointers but `device` are to memory of the device; the
 *  arrays that a session made for it lends are, too. Set struct_size first; what a function does
 *  not name may stay 0.
 *
 *  The functions queue their work on the stream, on the calling thread's current device. They
 *  allocate nothing and wait for nothing, and a CUDA graph can capture them. What is refused or
 *  failed has queued nothing. */
typedef struct ib_device_step {
  size_t struct_size;
  const char* device; /**< "cuda": a name of ib_backend_device() */
  void* stream;       /**< of that device; NULL: its default one */

  const void* losses; /**< [rows, width], contiguous; read alone */
  int64_t rows;       /**< B */
  int64_t width;      /**< of all trailing dimensions, at least 1 */
  int32_t type;       /**< an ib_column_type: IB_FLOAT32, IB_FLOAT64, IB_FLOAT16 or IB_BFLOAT16 */
  int32_t reduction;  /**< an ib_reduction */
  /** What a mean divides its sum by; 0: rows * width. IB_WEIGHTED_MEAN: by the weights of the step
   *  times this; 0: width. Ranks put in what is theirs (ib_rank_rows). */
  double divisor;

  /** In order: [size] of the plan. By ids: [size + 2], of sample i at i + 1, 0 where the plan
   *  leaves it out, 0 at both ends. */
  const float* weights;
  int64_t size;  /**< in order: of the plan; by ids: the number of samples */
  int64_t begin; /**< in order: position of the first row in the plan */
  float*
      staged; /**< in order: [size] receives the scores, e.g. ib_epoch_arrays.losses; NULL: none */
  uint64_t* cursor;   /**< in order: NULL, or [2]: begin is cursor[0], which moves by `rows`; rows
                           behind the plan's end weigh 0 and are counted in cursor[1] */
  const int64_t* ids; /**< NULL: in order; else [rows], outside of the data set: they weigh 0 */
  /** By ids: NULL, or [size + 2] of sample i at i + 1, which begin at the lowest number. The low 32
   *  bits of what is above that are the bits of the sample's last score. */
  int64_t* table;
  int64_t*
      row; /**< by ids with a table: the number of the next row times 2^32, first 2^32; moves */

  void* loss;    /**< one float (double of doubles); with IB_NONE [rows, width] of them */
  double* scale; /**< NULL, or one double, for the backward */
  void* scratch; /**< scratch memory: ib_device_step_scratch() bytes, NULL where that is 0 */
} ib_device_step;

/** Bytes of `scratch`. Reads device, losses' shape, type. */
INFOBATCH_API ib_status ib_device_step_scratch(const ib_device_step* step, size_t* bytes);
/** Losses to `loss`, `scale`, and `staged` or `table`. One launch for up to 4096 rows of one loss,
 *  else two, or three with IB_NONE. */
INFOBATCH_API ib_status ib_device_step_forward(const ib_device_step* step);
/** gradient[i, j] = given * scale * weight of row i, in the losses' type. One launch. Reads device,
 *  stream, shape, type, reduction and scale.
 *  @param given        the gradient of `loss`, of its type and shape.
 *  @param row_weights  [rows]: in order weights + begin; by ids of ib_device_row_weights().
 *  @param gradient     [rows, width] */
INFOBATCH_API ib_status ib_device_step_backward(const ib_device_step* step,
                                                const void* given,
                                                const float* row_weights,
                                                void* gradient);
/** The weights of rows by ids: [rows], for the backward. One launch. */
INFOBATCH_API ib_status ib_device_row_weights(const ib_device_step* step, float* row_weights);
/** out[i, j] = losses[i, j] * row_weights[i], of the losses' type: the gradient of outputs that
 *  exist without a loss a sample. One launch. @param out  may be `losses`. */
INFOBATCH_API ib_status ib_device_scale_rows(const ib_device_step* step,
                                             const float* row_weights,
                                             void* out);

/* --- session ------------------------------------------------------------------------------- */

/** @param size     number of samples, [0, 2^31]; fewer with a policy of more than two classes.
 *  @param threads  of the epoch boundary; 0: as many as the process may use. Never changes a plan.
 */
INFOBATCH_API ib_status ib_session_create(int64_t size,
                                          const ib_config* config,
                                          int32_t threads,
                                          ib_session** session);
/** The same from the options as JSON (`Config::to_json`). */
INFOBATCH_API ib_status ib_session_create_json(int64_t size,
                                               const char* config_json,
                                               int32_t threads,
                                               ib_session** session);
/** The same for a backend: its device works through the boundaries, and the arrays that the session
 *  lends are in memory that the device and the host share.
 *  @param backend  a name of ib_backend_name(); NULL: as without. Never changes a plan. */
INFOBATCH_API ib_status ib_session_create_on(int64_t size,
                                             const char* config_json,
                                             int32_t threads,
                                             const char* backend,
                                             ib_session** session);
/** NULL is fine. Plans obtained with ib_session_plan stay valid. */
INFOBATCH_API void ib_session_destroy(ib_session* session);
/** The options as JSON; lives as long as the session. */
INFOBATCH_API ib_status ib_session_config_json(ib_session* session, const char** json);
/** NULL: back to standard error. The handler may call the session. */
INFOBATCH_API ib_status ib_session_set_warning_handler(ib_session* session,
                                                       ib_warning_handler handler,
                                                       void* user_data);
/** From now on warnings wait for ib_session_next_warning; no handler is called. */
INFOBATCH_API ib_status ib_session_hold_warnings(ib_session* session);
/** Takes the oldest warning that waits; *text is NULL where there is none. Lives until the calling
 *  thread's next call of this function. */
INFOBATCH_API ib_status ib_session_next_warning(ib_session* session, const char** text);
/** The same with its kind. Set struct_size first. */
INFOBATCH_API ib_status ib_session_take_warning(ib_session* session, ib_warning* warning);
/** For a binding that has names of its own. Set struct_size first, and to NULL what is to stay.
 * What is wrong with options is told in their names, whatever is set here. */
INFOBATCH_API ib_status ib_session_set_wording(ib_session* session, const ib_wording* wording);

/** Gives every sample a value, e.g. `class`: data [N] is copied. Before the first epoch begins; it
 * is saved, and must be equal on load. "sampling_weight" (IB_FLOAT32, above 0) is read by the
 * engine: sample i then counts weight_i / mean times an epoch, in expectation.
 *  @param name  1 to 64 characters of a-z, 0-9 and _, no digit first, not "score", "times_kept" or
 *               "last_kept".
 *  @param type  an ib_column_type. */
INFOBATCH_API ib_status ib_session_set_column(ib_session* session,
                                              const char* name,
                                              int32_t type,
                                              const void* data);
/** A column by its name; "score" is the engine's. Set struct_size first. */
INFOBATCH_API ib_status ib_session_column(const ib_session* session,
                                          const char* name,
                                          ib_column* column);

/** The names of all columns in a NULL-terminated array, "score" first. Lives until the next call of
 *  this function on this session. */
INFOBATCH_API ib_status ib_session_column_names(ib_session* session, const char* const** names);

/** Number N of samples. */
INFOBATCH_API ib_status ib_session_size(const ib_session* session, int64_t* size);
/** The running epoch; once it is over, the next one. An epoch that a loop broke off is not over: it
 *  is still this one, until ib_session_begin goes on to the next. */
INFOBATCH_API ib_status ib_session_epoch(const ib_session* session, int64_t* epoch);
INFOBATCH_API ib_status ib_session_set_epoch(ib_session* session, int64_t epoch);
/** Number of samples that this epoch delivers. Plans it if need be: O(N). */
INFOBATCH_API ib_status ib_session_length(ib_session* session, int64_t* length);
/** The epoch's plan, to be released with ib_plan_release. */
INFOBATCH_API ib_status ib_session_plan(ib_session* session, ib_plan** plan);
/** Forgets what the epoch observed; it begins anew. */
INFOBATCH_API ib_status ib_session_discard_epoch(ib_session* session);

/** An iteration begins: the next epoch, or the same one while nothing was observed. */
INFOBATCH_API ib_status ib_session_begin(ib_session* session);
/** The next samples, at most `count`; slice->count is 0 at the end of the epoch. Fewer than `count`
 *  before the end only where an epoch observed by ids out of order is resumed. */
INFOBATCH_API ib_status ib_session_next(ib_session* session, int64_t count, ib_slice* slice);

/** The same for a loader that takes rows one by one, or some at a time, so that its batches are not
 *  known. Not to be mixed with ib_session_next in one epoch.
 *  @param slice  may be NULL, for a program that has the plan at hand. */
INFOBATCH_API ib_status ib_session_next_rows(ib_session* session, int64_t count, ib_slice* slice);
/** Samples of the oldest batch that are not observed yet; 0: no batch is out, or they are not
 * known. */
INFOBATCH_API ib_status ib_session_pending(const ib_session* session, int64_t* pending);
/** Says whether the loader drops a last batch that is short: an ib_declared. */
INFOBATCH_API ib_status ib_session_declare_drop_last(ib_session* session, int32_t drop_last);
/** Names a cause that a refusal for unsoundness in this epoch is to mention, for what only a
 * binding sees: the shape of a tensor, for example. It is forgotten where an epoch begins, also
 * anew. The text is copied; "" names none. */
INFOBATCH_API ib_status ib_session_suspect(ib_session* session, const char* cause);

/** Records the losses of the next `count` samples in order; `slice` (may be NULL) receives the
 *  samples and their weights. */
INFOBATCH_API ib_status ib_session_observe(ib_session* session,
                                           const float* losses,
                                           int64_t count,
                                           ib_slice* slice);
/** The same with the samples named; `weights` [count] receives their weights. */
INFOBATCH_API ib_status ib_session_observe_ids(
    ib_session* session, const float* losses, const int64_t* ids, int64_t count, float* weights);
/** Weights of samples in the plan of the running (or just finished) epoch, by id: weights [count].
 *  Nothing counts as observed. The first call of an epoch costs O(N), and plans it if need be;
 * later ones O(count).
 *  @return IB_INDEX_ERROR for an id outside the data set or the plan; the text has row and id. */
INFOBATCH_API ib_status ib_session_weights(ib_session* session,
                                           const int64_t* ids,
                                           int64_t count,
                                           float* weights);
/** ib_session_observe, then the reduced loss into out[0], or out[0 .. count) for IB_NONE. The means
 *  of no losses are NaN.
 *  @param reduction  an ib_reduction. */
INFOBATCH_API ib_status ib_session_update(
    ib_session* session, const float* losses, int64_t count, int32_t reduction, float* out);

/** The arrays of the epoch that has begun, for a program that does the step itself. Set struct_size
 *  first. */
INFOBATCH_API ib_status ib_session_epoch_arrays(ib_session* session, ib_epoch_arrays* arrays);
/** ib_session_observe without the losses: checks, moves the cursor, fills in `slice` (may be NULL).
 *  The losses are then written to ib_epoch_arrays.losses, or handed over by ib_session_stage;
 *  positions that nobody writes until the boundary or a save count as unseen. */
INFOBATCH_API ib_status ib_session_advance(ib_session* session, int64_t count, ib_slice* slice);
/** Hands over raw losses of the positions [begin, begin + count): behind ib_session_advance those
 * that were advanced over, else those that were written by ids. `losses` may be the lent array
 * itself. */
INFOBATCH_API ib_status ib_session_stage(ib_session* session,
                                         const float* losses,
                                         int64_t begin,
                                         int64_t count);

/* --- ranks ---------------------------------------------------------------------------------
 *
 * Each rank has a session of its own, all with the same options, and all make the same plan. Row j
 * of a share is position j * size + rank of the plan; everything that delivers, observes or lends
 * speaks of the share. Nothing is exchanged in a step. Between epochs, with `exchange`, `gather`
 * and `largest` those of the program (MPI, NCCL, files):
 */
/* clang-format off */
/*
 *     ib_session_report_to_share(session, -1, &own);       // or the epoch of set_epoch
 *     exchange(&own, reports);                             // the reports of all ranks
 *     ib_session_agree(session, reports, ranks);           // fails on all ranks, where they differ
 *     if (ib_rank_reports_must_share(reports, ranks)) {
 *       ib_session_losses_to_share(session, &bits, &count);
 *       gather(bits, count, all);                          // IB_GLOBAL: largest(bits, count, all)
 *       ib_session_take_losses(session, all, count, reports, ranks);
 *     }
 *     ib_session_begin(session);                           // or ib_session_set_epoch
 */
/* clang-format on */

/** This session is one rank of several from now on; before its first epoch begins. Set struct_size
 *  first. Plans do not depend on it, but for whole_batches, which counts one rank's samples. */
INFOBATCH_API ib_status ib_session_set_ranks(ib_session* session, const ib_ranks* ranks);
/** The header of an exchange. Set struct_size first.
 *  @param target  the epoch that is to begin; -1: the next iteration does. */
INFOBATCH_API ib_status ib_session_report_to_share(ib_session* session,
                                                   int64_t target,
                                                   ib_rank_report* report);
/** Whether the reports of all ranks, in their order, are of one run at one place.
 *  @return IB_STATE_ERROR where they differ; the text has every field that does, and which rank. */
INFOBATCH_API ib_status ib_session_agree(const ib_session* session,
                                         const ib_rank_report* reports,
                                         int64_t ranks);
/** Whether losses must be exchanged now, 0 or 1: the epoch has begun and is to be left. */
INFOBATCH_API int32_t ib_rank_reports_must_share(const ib_rank_report* reports, int64_t ranks);
/** The losses of this rank, 4 bytes a row, until the next call of this function on this session.
 *  IB_SHARDED: [rows] bits of float32, 0x7fc00002 where there is none, to be gathered in the order
 *  of the ranks. IB_GLOBAL: [K] integers ordered as the losses are, to be reduced to the largest.
 */
INFOBATCH_API ib_status ib_session_losses_to_share(ib_session* session,
                                                   const int32_t** bits,
                                                   int64_t* count);
/** Takes over the losses of all ranks, [ranks][count] (IB_GLOBAL: [count]). Then another epoch may
 *  begin, with the same scores on all ranks: losses of a rank whose epoch was unsound enter
 * nowhere.
 *  @param count  that of ib_session_losses_to_share. */
INFOBATCH_API ib_status ib_session_take_losses(ib_session* session,
                                               const int32_t* bits,
                                               int64_t count,
                                               const ib_rank_report* reports,
                                               int64_t ranks);
/** The rows of this rank's share. Set struct_size first. */
INFOBATCH_API ib_status ib_session_rank_rows(const ib_session* session, ib_rank_rows* rows);
/** One rank's part of the state, in the midst of an epoch; the bytes live until the next call of
 *  this function, ib_session_join_parts or ib_session_serialize on this session.
 *  @param with_scores  0 or 1; one part must have them, or the session that joins them the same. */
INFOBATCH_API ib_status ib_session_serialize_part(ib_session* session,
                                                  int32_t with_scores,
                                                  const char** bytes,
                                                  size_t* size);
/** The state of the whole run from the parts of all ranks, in any order. It loads on any number of
 *  ranks. The bytes live as those of ib_session_serialize_part. */
INFOBATCH_API ib_status ib_session_join_parts(ib_session* session,
                                              const char* const* parts,
                                              const size_t* sizes,
                                              size_t count,
                                              const char** bytes,
                                              size_t* size);
/** Writes that state to a file, atomically. */
INFOBATCH_API ib_status ib_session_save_parts(ib_session* session,
                                              const char* path,
                                              const char* const* parts,
                                              const size_t* sizes,
                                              size_t count);

/** This session holds one range of a larger table from now on: threshold, keep decisions and
 * weights are those of the whole table, order and figures those of the range. Whatever plans an
 * epoch is then a call of all ranks together, and `gather` must not call the session. What it needs
 * and refuses: infobatch/session.hpp, Session::set_range. Set struct_size first.
 *  @return IB_STATE_ERROR where the ranges are not one table of one run, or an epoch has begun. */
INFOBATCH_API ib_status ib_session_set_range(ib_session* session,
                                             const ib_id_range* range,
                                             ib_gather gather,
                                             void* user_data);

/** Fraction of the run that is done, [0, 1]. */
INFOBATCH_API ib_status ib_session_progress(const ib_session* session, double* progress);
/** Samples of the running epoch that were observed. */
INFOBATCH_API ib_status ib_session_position(const ib_session* session, int64_t* position);
/** E * ceil(N / batch_size). */
INFOBATCH_API ib_status ib_session_max_steps(const ib_session* session,
                                             int64_t batch_size,
                                             int64_t* steps);
/** [N] scores, NaN: never observed. The memory stays where it is while the session lives. */
INFOBATCH_API ib_status ib_session_scores(const ib_session* session, const float** scores);
/** Set struct_size first: ib_statistics s; s.struct_size = sizeof s; */
INFOBATCH_API ib_status ib_session_statistics(const ib_session* session, ib_statistics* statistics);

/** Writes the state to a file, atomically. */
INFOBATCH_API ib_status ib_session_save(ib_session* session, const char* path);
/** Goes on from a file. @param report  NULL, or receives what differs and may, one option a line,
 *  "" when nothing does; lives until the next load on this session. */
INFOBATCH_API ib_status ib_session_load(ib_session* session, const char* path, const char** report);
/** Epoch and position at which the last load on this session goes on. Set struct_size first. */
INFOBATCH_API ib_status ib_session_load_report(const ib_session* session, ib_load_report* report);
/** The state as bytes; they live until the next call of this function on this session. */
INFOBATCH_API ib_status ib_session_serialize(ib_session* session, const char** bytes, size_t* size);
INFOBATCH_API ib_status ib_session_deserialize(ib_session* session,
                                               const char* bytes,
                                               size_t size,
                                               const char** report);
/** ib_session_load and ib_session_deserialize where the data set has grown or shrunk since: scores
 *  follow their samples, new samples have none. Only between epochs.
 *  @param origin  NULL: ids are what they were; else [N] the id that each sample had then, -1: it
 * is new. */
INFOBATCH_API ib_status ib_session_load_resized(ib_session* session,
                                                const char* path,
                                                const int64_t* origin,
                                                const char** report);
INFOBATCH_API ib_status ib_session_deserialize_resized(ib_session* session,
                                                       const char* bytes,
                                                       size_t size,
                                                       const int64_t* origin,
                                                       const char** report);
/** Writes a table of all samples as CSV, atomically: id, then every column by its name; an empty
 *  cell is unknown. */
INFOBATCH_API ib_status ib_session_export_csv(const ib_session* session, const char* path);

/* --- plan ---------------------------------------------------------------------------------- */

/** The whole plan as one slice. */
INFOBATCH_API ib_status ib_plan_view(const ib_plan* plan, ib_slice* slice);
/** The epoch it belongs to. */
INFOBATCH_API ib_status ib_plan_epoch(const ib_plan* plan, int64_t* epoch);
/** NULL is fine. */
INFOBATCH_API void ib_plan_release(ib_plan* plan);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* INFOBATCH_C_API_H_ */
