#pragma once

// A session in a situation, the loop around it, and everything that can be seen of it.

#include <infobatch/c_api.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace infobatch::testing {

/// How the loop of a situation gives its losses back.
enum class Loop { kOrder, kParts, kIds, kRows, kLent };

struct World;

/// A session made up to the point where the calls are tried.
struct Situation {
  const char* name;
  Loop loop;
  void (*options)(ib_config& config);
  void (*prepare)(World& world);
  std::int64_t size = 97;
  std::int32_t threads = 1;
  std::int64_t batch = 10;
};

const std::vector<Situation>& small_situations();
const std::vector<Situation>& large_situations();

/// What can be seen of a session; a failed call leaves all of it as it was.
struct Sight {
  std::string state;
  std::vector<std::uint32_t> scores;
  std::string figures;  ///< statistics, epoch, position, pending, progress, a refusal

  bool operator==(const Sight& other) const {
    return state == other.state && scores == other.scores && figures == other.figures;
  }
};

/// Warnings that a handler received: no memory is taken for them.
struct Received {
  std::int64_t count = 0;
  std::uint64_t texts = 0;  ///< a sum of fingerprints, whatever the order
};

struct World {
  explicit World(const Situation& situation);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // The loop, in the manner of the situation. Statuses are part of the trace.
  void begin();
  /// Delivers and observes batches; false: there is none.
  bool step();
  void steps(int count);
  void epoch();  ///< begins one and ends it, the last call of `next` included
  /// Ends what is out, then the epochs that are left, and looks at all.
  void finish();

  Sight sight() const;
  void note(const char* what, std::int64_t value);
  void note_slice(const ib_slice& slice);

  const Situation& situation;
  ib_session* session = nullptr;
  std::string trace;
  Received received;
  bool nan_losses = false;

  // What calls read and write: room is made before anything may fail.
  std::vector<std::int64_t> last_ids;  ///< of the batch delivered last
  std::vector<float> losses;
  std::vector<float> weights;
  std::vector<std::int64_t> ids;
  std::vector<float> column;
  std::int64_t count = 0;
  ib_slice slice{};
  std::int64_t number = 0;
  double real = 0.0;
  const char* text = nullptr;
  std::size_t bytes = 0;
  const float* scores = nullptr;
  std::string path;   ///< a file to save to
  std::string saved;  ///< a file with the session's state
  std::string state;  ///< the same as bytes

 private:
  void give_losses(const ib_slice& slice);
};

ib_session* new_session(const Situation& situation, Received* received);

}  // namespace infobatch::testing
