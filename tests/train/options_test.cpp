#include <examples/train/arms.hpp>
#include <examples/train/options.hpp>
#include <tests/support/catch2_shim.hpp>

#include <string>
#include <vector>

using namespace infobatch::train;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("options: defaults are those of the documentation", "[train][options]") {
  const TrainOptions options = parse_options({});
  REQUIRE(options.arms == std::vector<std::string>{"full", "infobatch"});
  REQUIRE(options.data == "builtin");
  REQUIRE(options.model == "small-cnn");
  REQUIRE(options.dtype == "fp32");
  REQUIRE(options.device == "cpu");
  REQUIRE(options.epochs == 16);
  REQUIRE(options.prune_ratio == 0.5);
  REQUIRE(options.delta == 0.875);
  REQUIRE(options.seeds == std::vector<std::uint64_t>{1});
  REQUIRE(options.lr == 0.2);
  REQUIRE(options.threads >= 1);
}

TEST_CASE("options: both spellings of a value, lists, the model's learning rate",
          "[train][options]") {
  const TrainOptions options = parse_options({"--epochs=20",
                                              "--seeds",
                                              "3,1,2",
                                              "--arms",
                                              "infobatch,random,full-short",
                                              "--data=cifar10:some/folder",
                                              "--model=resnet18",
                                              "--prune-ratio",
                                              ".25",
                                              "--delta=1",
                                              "--threads=3",
                                              "--interleave"});
  REQUIRE(options.epochs == 20);
  REQUIRE(options.seeds == std::vector<std::uint64_t>{3, 1, 2});
  REQUIRE(options.arms.size() == 3);
  REQUIRE(options.data_name() == "cifar10");
  REQUIRE(options.data_directory() == "some/folder");
  REQUIRE(options.lr == 0.1);
  REQUIRE(options.prune_ratio == 0.25);
  REQUIRE(options.delta == 1.0);
  REQUIRE(options.threads == 3);
  REQUIRE(options.interleave);
}

TEST_CASE("options: every mistake is refused by name", "[train][options]") {
  struct Mistake {
    std::vector<std::string> arguments;
    const char* says;
  };
  const std::vector<Mistake> mistakes = {
      {{"--epoch", "3"}, "unknown option '--epoch'"},
      {{"full"}, "unknown option 'full'"},
      {{"--epochs"}, "--epochs: needs a value"},
      {{"--epochs", "0"}, "--epochs: must be an integer in [1, "},
      {{"--epochs", "3.5"}, "got '3.5'"},
      {{"--epochs", "3x"}, "got '3x'"},
      {{"--epochs", ""}, "got ''"},
      {{"--epochs", "3", "--epochs", "4"}, "--epochs: must be given once"},
      {{"--samples", "0"}, "--samples"},
      {{"--samples", "-5"}, "--samples"},
      {{"--batch-size", "1"}, "--batch-size"},
      {{"--lr", "0"}, "--lr: must be a number in (0, 1e6]"},
      {{"--lr", "nan"}, "got 'nan'"},
      {{"--lr", "1e999"}, "--lr"},
      {{"--prune-ratio", "1"}, "--prune-ratio: must be a number in [0, 1)"},
      {{"--prune-ratio", "-0.1"}, "got '-0.1'"},
      {{"--delta", "0"}, "--delta"},
      {{"--delta", "1.01"}, "--delta"},
      {{"--share", "1"}, "--share"},
      {{"--threads", "0"}, "--threads"},
      {{"--seeds", "1,,2"}, "--seeds: must be a comma-separated list without gaps"},
      {{"--seeds", "1,2,1"}, "without repetitions"},
      {{"--seeds", "1,01"}, "without repetitions"},
      {{"--seeds", "-1"}, "--seeds"},
      {{"--arms", "full,infobach"}, "got 'infobach'"},
      {{"--arms", "full,"}, "without gaps"},
      {{"--arms", ""}, "--arms"},
      {{"--arms", "full,random"}, "'random' takes the share that infobatch saves"},
      {{"--arms", "full-short"}, "add infobatch, or give --share"},
      {{"--model", "vgg"}, "one of small-cnn, resnet18"},
      {{"--dtype", "fp16"}, "one of fp32, bf16, fp64"},
      {{"--device", "gpu"}, "--device: must be cpu, cuda, mps, xpu or another device"},
      {{"--device", ""}, "got ''"},
      {{"--device", "cuda:99"}, "got 'cuda:99'"},
      {{"--device", "meta"}, "got 'meta'"},
      {{"--device", "cuda:99", "--dtype", "fp64"}, "with Double, got 'cuda:99'"},
      {{"--data", "mnist"}, "--data: must be builtin, cifar10:DIR or cifar100:DIR"},
      {{"--data", "cifar10:"}, "got 'cifar10:'"},
      {{"--data", "cifar10:x", "--data-seed", "3"}, "goes with --data builtin"},
      {{"--json", "no/such/folder/x.json"}, "a folder that exists"},
      {{"--json", "."}, "not of a folder"},
      {{"--checkpoint", "no/such/folder/x"}, "--checkpoint"},
      {{"--checkpoint-every", "5"}, "needs --checkpoint FILE"},
      {{"--json", "same", "--checkpoint", "same"}, "another file"},
      {{"--json", "same", "--checkpoint", "same.tmp"}, "another file"},
      {{"--json", "same.tmp", "--checkpoint", "same"}, "another file"},
      {{"--json", "./same", "--checkpoint", "same"}, "another file"},
      {{"--json", "same", "--checkpoint", "././/same"}, "another file"},
      {{"--interleave=yes"}, "takes no value"},
      {{"--json", "--interleave"}, "--json: needs a value"},
      {{"--lr", "1e308"}, "a number in (0, 1e6]"},
      {{"--weight-decay", "1e300"}, "a number in [0, 1e6]"},
  };
  for (const Mistake& mistake : mistakes) {
    CAPTURE(mistake.arguments);
    REQUIRE_THROWS_AS(parse_options(mistake.arguments), UsageError);
    REQUIRE_THROWS_WITH(parse_options(mistake.arguments), ContainsSubstring(mistake.says));
  }
}

TEST_CASE("options: --share lets random and full-short run on their own", "[train][options]") {
  REQUIRE_NOTHROW(parse_options({"--arms", "full,random,full-short", "--share", "0.3"}));
}

TEST_CASE("options: the help names every option and arm", "[train][options]") {
  const std::string help = help_text();
  for (const char* name : {"--arms",        "--data",  "--data-seed",    "--samples",
                           "--model",       "--dtype", "--device",       "--epochs",
                           "--batch-size",  "--lr",    "--weight-decay", "--label-smoothing",
                           "--prune-ratio", "--delta", "--share",        "--seeds",
                           "--threads",     "--json",  "--checkpoint",   "--checkpoint-every",
                           "--interleave",  "--help"}) {
    CAPTURE(name);
    REQUIRE_THAT(help, ContainsSubstring(std::string("  ") + name));
  }
  for (const Arm& arm : arms()) REQUIRE_THAT(help, ContainsSubstring(arm.name));
  REQUIRE(parse_options({"--epochs", "3", "--help"}).help);
}

TEST_CASE("arms: each one is the policy that its name says", "[train][options]") {
  const TrainOptions options = parse_options({"--prune-ratio", "0.4", "--epochs", "10"});
  const auto of = [&](const char* name) {
    return sampler_options(find_arm(name), options, 7, 0.2);
  };
  REQUIRE(of("full").policy() == "full");
  REQUIRE(of("full-short").policy() == "full");
  REQUIRE(of("random").policy() == "random");
  REQUIRE(of("random").target_saved().value() == 0.2);
  REQUIRE(of("random").rescale());
  REQUIRE(of("random").delta() == 0.875);
  REQUIRE(of("infobatch").policy() == "infobatch");
  REQUIRE(of("infobatch").keep() == "bernoulli");
  REQUIRE(of("infobatch").prune_ratio() == 0.4);
  REQUIRE(of("infobatch").seed().value() == 7);
  REQUIRE(of("infobatch").device().value().is_cpu());
  REQUIRE(of("infobatch-exact").keep() == "exact");
  REQUIRE(of("infobatch-quantile").policy() == "infobatch_quantile");
  REQUIRE_FALSE(of("infobatch-norescale").rescale());
  REQUIRE(of("infobatch-noanneal").delta() == 1.0);
}
