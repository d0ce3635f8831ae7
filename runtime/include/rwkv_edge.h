/* RWKV Press runtime: runs a packed RWKV model. The only header that is installed.
 *
 * Link: -lrwkv_edge -lrwkv_formats, the C++ standard library, -lm and threads. For example
 *   cc main.c -lrwkv_edge -lrwkv_formats -lstdc++ -lm -pthread
 *
 * Rules for all functions:
 *   - Functions that can fail return an rwkv_status; rwkv_last_error() gives the reason. A call
 * that fails leaves its objects unchanged, unless its description says otherwise.
 *   - A NULL that is not allowed gives RWKV_USAGE, never a crash. Functions that return a number
 *     then return 0, functions that return text return "".
 *   - The library prints nothing, lets no exception escape and never ends the process. One thing
 *     that it cannot prevent: in the modes that map a file, the system raises SIGBUS if the file
 *     becomes shorter while it is used (see rwkv_memory_mode).
 *   - Text is a number of bytes, normally UTF-8; only paths end with a zero byte.
 *   - Buffers belong to the caller; the library keeps no pointer to them after a call.
 *   - A model never changes and may be used from any number of threads at the same time. A session
 *     serves one thread at a time; different sessions are independent.
 */
#ifndef RWKV_EDGE_H
#define RWKV_EDGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Changes when a program compiled against an older header would no longer work. */
#define RWKV_EDGE_API_VERSION 1

typedef enum rwkv_status {
  RWKV_OK = 0,
  RWKV_FAILED = 1,   /* the work failed: no memory, no threads, an exception */
  RWKV_USAGE = 2,    /* the request is invalid */
  RWKV_BAD_INPUT = 3 /* a file, a text, a token or a saved state is damaged or of the wrong kind */
} rwkv_status;

/* An open model. */
typedef struct rwkv_model rwkv_model;
/* One text in progress: the recurrent state, threads, scratch memory. */
typedef struct rwkv_session rwkv_session;

/* The version of the library, as "1.2.3". Never NULL, never freed. */
const char* rwkv_edge_version(void);
/* RWKV_EDGE_API_VERSION of the library; compare it with that of this header. */
int rwkv_edge_api_version(void);

/* One line about the last failure in the calling thread: what was expected, what was found. "" if
 * nothing has failed yet; calls that succeed do not change it. Control characters of names and
 * files are shown as \x1b and the like, so it may go to a terminal as it is. Never NULL; valid
 * until the next failure in this thread. */
const char* rwkv_last_error(void);

/* --- Models --- */

/* Opens the packed file at `path` in the mode RWKV_MEMORY_ANY, without a limit. Weights are read
 * when they are first used, so the file must not change while the model is open. Free `*out` with
 * rwkv_model_free; it is NULL on failure. RWKV_BAD_INPUT if the file does not exist, is damaged or
 * is not a packed model. */
rwkv_status rwkv_model_open(const char* path, rwkv_model** out);
/* Where weights live. FULL maps the file. LOADED reads all of it into large pages. SPARSE holds the
 * weights that every token needs, and reads embedding rows, neurons and clusters of the head when
 * they are needed. WINDOWED holds the same weights, but uses the others in place in the mapped
 * file, one stretch at a time. STREAMED holds the weights that every token needs as far as the
 * limit goes, and reads the others for every token, ahead of their use. LAYERWISE holds one block
 * at a time, or with a limit as many as fit. ANY without a limit is the mode that the file was made
 * for: WINDOWED or SPARSE with predictors or a clustered head, else FULL; with one, the best of
 * FULL, SPARSE, WINDOWED, STREAMED and LAYERWISE that fits.
 *
 * A file that becomes shorter while the model is open: FULL and WINDOWED use it in place, and
 * touching what is gone raises SIGBUS, which ends the process unless it has a handler. SPARSE,
 * STREAMED and LAYERWISE read it: the call returns RWKV_FAILED. LOADED does not need it any more. A
 * host that may not end takes one of these four, or opens files that nobody else can change. Files
 * that are replaced by rename stay whole for those who have them open. */
typedef enum rwkv_memory_mode {
  RWKV_MEMORY_ANY = 0,
  RWKV_MEMORY_FULL = 1,
  RWKV_MEMORY_SPARSE = 2,
  RWKV_MEMORY_LAYERWISE = 3,
  RWKV_MEMORY_LOADED = 4,
  RWKV_MEMORY_WINDOWED = 5,
  RWKV_MEMORY_STREAMED = 6
} rwkv_memory_mode;
/* Opens the packed file at `path` in a mode and within `limit` bytes for the model and one session
 * of one thread; 0 means no limit. Sessions of a SPARSE, WINDOWED, STREAMED or LAYERWISE model take
 * turns.
 * RWKV_USAGE if the model does not fit, before anything is loaded; rwkv_last_error() names the
 * smallest possible limit. */
rwkv_status rwkv_model_open_within(const char* path, rwkv_memory_mode mode, uint64_t limit,
                                   rwkv_model** out);
/* How fast a device is with a model, as `rwkv-edge profile` measures it. */
typedef struct rwkv_device {
  double read_bytes_per_second; /* of the storage that the file lies on */
  double compute_seconds;       /* of a token, with all weights at full width in memory */
  unsigned n_threads;           /* that computed, and that sessions will have */
} rwkv_device;
/* What streamed weights are to reach; 0 is no wish. With a file of several widths, weights are
 * narrowed as far as that takes. */
typedef struct rwkv_stream_goal {
  uint64_t limit; /* bytes of the model and one session */
  double tokens_per_second;
  double first_token_seconds; /* widths rise afterwards */
} rwkv_stream_goal;
/* Opens the packed file at `path` in mode STREAMED. RWKV_USAGE if the goal cannot be reached;
 * rwkv_last_error() says what can. */
rwkv_status rwkv_model_open_streamed(const char* path, const rwkv_device* device,
                                     const rwkv_stream_goal* goal, rwkv_model** out);
/* Bytes that the model and one of its sessions take, by the library's account. */
uint64_t rwkv_model_resident_bytes(const rwkv_model* model);
/* Bytes of weights read from storage since the model was opened; 0 if it is mapped. */
uint64_t rwkv_model_bytes_read(const rwkv_model* model);
/* Frees a model; NULL is allowed. Its sessions stay usable; freeing the last one frees the weights.
 */
void rwkv_model_free(rwkv_model* model);

/* Logits per token; valid ids are 0 to n_vocab - 1. */
size_t rwkv_model_n_vocab(const rwkv_model* model);
/* Number of blocks. */
size_t rwkv_model_n_layer(const rwkv_model* model);
/* Width of the residual stream, in floats. */
size_t rwkv_model_n_embd(const rwkv_model* model);
/* Bytes of all weights in the file. */
uint64_t rwkv_model_bytes(const rwkv_model* model);
/* The most bytes of weights that generating one token can read. */
uint64_t rwkv_model_bytes_per_token(const rwkv_model* model);
/* "v4", "v5.2", "v6", "v7"; "x058" and "x059" for v5.2 with factor pairs. Valid as long as the
 * model lives. */
const char* rwkv_model_version(const rwkv_model* model);
/* 1 if the file has a vocabulary, so that text can be encoded and decoded; else 0. */
int rwkv_model_has_vocabulary(const rwkv_model* model);
/* The id that ends a text; -1 if there is none, or no model. */
int32_t rwkv_model_end_of_text(const rwkv_model* model);

/* Splits `n_bytes` bytes of `text` (NULL only if 0) into tokens. `*n_out` receives their number.
 * With `ids` NULL and `capacity` 0 they are only counted. If there are more than `capacity`,
 * nothing is written and the status is RWKV_USAGE. On other failures `*n_out` is 0: RWKV_BAD_INPUT
 * if the model has no vocabulary, or the text cannot be split. */
rwkv_status rwkv_encode(const rwkv_model* model, const char* text, size_t n_bytes, int32_t* ids,
                        size_t capacity, size_t* n_out);
/* The bytes of `n_ids` tokens (NULL only if 0), which need not be whole characters and do not end
 * with a zero. `*n_out` receives the number of bytes. `text`, `capacity` and failures as above; an
 * id outside the vocabulary is RWKV_BAD_INPUT. */
rwkv_status rwkv_decode(const rwkv_model* model, const int32_t* ids, size_t n_ids, char* text,
                        size_t capacity, size_t* n_out);

/* --- Sessions --- */

/* A session with the state that the model begins with: empty, unless it was tuned by its state.
 * `n_threads` counts the calling thread; 0 means as many as the process may run, at most 256. Free
 * `*out` with rwkv_session_free; it is NULL on failure. RWKV_FAILED if memory or threads are
 * lacking. */
rwkv_status rwkv_session_new(const rwkv_model* model, unsigned n_threads, rwkv_session** out);
/* Frees a session and ends its threads; NULL is allowed. */
void rwkv_session_free(rwkv_session* session);
/* Forgets everything that was fed and generated; options remain. The state is that of a new session
 * again. */
rwkv_status rwkv_session_reset(rwkv_session* session);
/* An independent session with its own threads that continues from the present state of this one.
 * Free `*out` with rwkv_session_free; it is NULL on failure. */
rwkv_status rwkv_session_clone(const rwkv_session* session, rwkv_session** out);

/* Plans the streamed weights of the session's model again, within `limit` bytes and for
 * `tokens_per_second`, if it was opened with the figures of a device; 0 is no wish. The states of
 * all sessions stay. Weights that come into memory are read by the next token. RWKV_USAGE if the
 * model is not STREAMED or this cannot be reached; nothing changes then. */
rwkv_status rwkv_session_replan(rwkv_session* session, uint64_t limit, double tokens_per_second);

/* Feeds `n` tokens (NULL only if 0). One by one or a whole prompt at once gives the same result;
 * many at a time are faster. An id outside the vocabulary is RWKV_BAD_INPUT and nothing is fed. */
rwkv_status rwkv_eval(rwkv_session* session, const int32_t* tokens, size_t n);
/* Encodes and feeds text. RWKV_BAD_INPUT as in rwkv_encode; nothing is fed then. */
rwkv_status rwkv_eval_text(rwkv_session* session, const char* text, size_t n_bytes);
/* Copies the logits of the token that would come next. `n` must be rwkv_model_n_vocab. RWKV_USAGE
 * if nothing was fed yet. */
rwkv_status rwkv_logits(const rwkv_session* session, float* out, size_t n);

/* Bytes of a saved state; the same for all sessions of a model. */
size_t rwkv_state_bytes(const rwkv_session* session);
/* Writes rwkv_state_bytes to `out`, which has `n` bytes. RWKV_USAGE if that is too small. The
 * bytes may be stored and read on any machine of the same byte order. */
rwkv_status rwkv_state_get(const rwkv_session* session, void* out, size_t n);
/* Replaces the state by a saved one of `n` bytes. Logits are not part of it: feed at least one
 * token before rwkv_logits or rwkv_generate. RWKV_BAD_INPUT if it is damaged or belongs to another
 * model; the session does not change then. */
rwkv_status rwkv_state_set(rwkv_session* session, const void* state, size_t n);
/* Writes the state and the logits of the next token to the file `path`. It appears whole or not at
 * all, and replaces an older state; RWKV_USAGE if a file of another kind has the name. */
rwkv_status rwkv_state_save(const rwkv_session* session, const char* path);
/* Replaces the state by that of a file: of rwkv_state_save or rwkv-edge --save-state, whose logits
 * allow rwkv_generate at once, or a .safetensors file of tuned states (blocks.N.att.time_state),
 * after which at least one token must be fed. RWKV_BAD_INPUT if the file is damaged, of another
 * kind or of another model; the session does not change then. */
rwkv_status rwkv_state_load(rwkv_session* session, const char* path);

/* --- Generating --- */

/* How tokens are chosen, in the order of ChatRWKV: penalties, softmax, top-p and top-k,
 * temperature. */
typedef struct rwkv_sampler_options {
  float temperature;       /* 0 or more; 0 always takes the most probable token */
  int32_t top_k;           /* keep the k most probable tokens; 0 is off */
  float top_p;             /* keep the most probable tokens that add up to this; 1 is off */
  float presence_penalty;  /* -100 to 100, subtracted from the logit of a token that occurred */
  float frequency_penalty; /* -100 to 100, subtracted once for each occurrence */
  float penalty_decay;     /* 0 to 1: counts of occurrences shrink by this factor at each token */
  uint64_t seed;           /* the same seed gives the same text */
} rwkv_sampler_options;

/* Temperature 1, no top-k or top-p, no penalties, seed 0. */
rwkv_sampler_options rwkv_sampler_default(void);

/* Texts that end generation; they are not handed out. Replaces earlier ones; `n_stops` 0 removes
 * them (the pointers may then be NULL). `stops[i]` has `n_bytes[i]` bytes, at least 1. */
rwkv_status rwkv_session_set_stops(rwkv_session* session, const char* const* stops,
                                   const size_t* n_bytes, size_t n_stops);

/* Receives each token with the characters that it completes: whole UTF-8 characters, `n_bytes`
 * bytes, possibly none. `text` is never NULL, does not end with a zero and is valid only during the
 * call. Text that was held back until the end (it might have become a stop string or a whole
 * character) comes with token -1. Return 0 to continue, anything else to end. The callback must not
 * call functions on its session. */
typedef int (*rwkv_piece_callback)(void* user, int32_t token, const char* text, size_t n_bytes);

typedef enum rwkv_stop_reason {
  RWKV_STOP_MAX_TOKENS = 0,
  RWKV_STOP_END_OF_TEXT = 1,
  RWKV_STOP_STRING = 2,   /* one of rwkv_session_set_stops was complete */
  RWKV_STOP_CANCELLED = 3 /* the callback ended it */
} rwkv_stop_reason;

/* Generates at most `max_tokens` tokens after the tokens fed so far, and feeds them too, so another
 * call continues from there. Only the token that ends a text is neither handed out nor fed.
 * Giving `options` starts a new series: no occurrences, the random generator at its seed. NULL
 * continues the last series, at first with rwkv_sampler_default. `user` is passed to the callback.
 * `*why` receives the reason for the end; `why` may be NULL. RWKV_USAGE if an option is out of
 * range or nothing was fed. */
rwkv_status rwkv_generate(rwkv_session* session, const rwkv_sampler_options* options,
                          size_t max_tokens, rwkv_piece_callback callback, void* user,
                          rwkv_stop_reason* why);

#ifdef __cplusplus
}
#endif

#endif /* RWKV_EDGE_H */
