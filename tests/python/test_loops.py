"""The three lines in the loops that people write, against what the rules say of them."""

import copy
import pickle
import random
import subprocess
import sys
import unittest
import warnings

import infobatch
from infobatch import InfoBatch

try:
    import torch
except ImportError:
    torch = None


class Numbers:
    """Samples that are their own index."""

    def __init__(self, size):
        self.size = size
        self.note = "an attribute of the data set within"

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return index


def loss_of(index, epoch):
    return index / 1000 + 0.01 * epoch


class Importing(unittest.TestCase):
    def test_it_loads_neither_torch_nor_numpy(self):
        code = "import sys, infobatch; print({'torch', 'numpy'} & set(sys.modules))"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        self.assertEqual(found.stdout.strip(), "set()")

    def test_all_names_exist(self):
        for name in infobatch.__all__:
            if torch is None and name in ("scale_gradient",):
                continue
            self.assertTrue(hasattr(infobatch, name), name)


class Without(unittest.TestCase):
    """A loop without a framework: lists of floats."""

    def test_an_epoch_leaves_out_learned_samples_and_scores_are_right(self):
        size, batch = 1000, 64
        ib = InfoBatch(size, 8, seed=3)
        for epoch in range(8):
            ids_seen = []
            for ids in ib.batch_sampler(batch):
                ib.update([loss_of(i, epoch) for i in ids])
                ids_seen += ids
            self.assertEqual(len(set(ids_seen)), len(ids_seen))
            if epoch in (0, 7):
                self.assertEqual(len(ids_seen), size)
            else:
                self.assertLess(len(ids_seen), 0.85 * size)
            self.assertEqual(ib.epoch, epoch + 1)
        self.assertGreater(ib.get_pruned_count(), 0)
        self.assertEqual(ib.progress, 1.0)

    def test_mean_is_over_the_batch_and_weights_are_the_inverse_of_the_chance_to_be_kept(self):
        ib = InfoBatch(100, 10, prune_ratio=0.75, seed=1)
        for ids in ib.batch_sampler(50):
            ib.update([float(i) for i in ids])
        for ids in ib.batch_sampler(1000):
            losses = [float(i) for i in ids]
            weights = [4.0 if i < 49.5 else 1.0 for i in ids]
            expected = sum(w * x for w, x in zip(weights, losses)) / len(ids)
            self.assertAlmostEqual(ib.update(losses), expected, places=4)

    def test_options(self):
        with self.assertRaisesRegex(TypeError, "one of .*target_saved.* got prunning"):
            InfoBatch(10, 5, prunning=0.5)
        with self.assertRaisesRegex(ValueError, "delta.*2.*prune_ratio.*1.5"):
            InfoBatch(10, 5, 1.5, 2.0)
        with self.assertRaises(ValueError):
            InfoBatch(-1, 5)
        with self.assertRaisesRegex(TypeError, "iterable"):
            InfoBatch(iter([1, 2]), 5)
        ib = InfoBatch(1000, 8, target_saved=0.2, keep="exact")
        self.assertEqual(ib.statistics.promised_saved, 0.2)

    def test_what_is_wrong_is_refused_in_the_words_of_python(self):
        ib = InfoBatch(100, 8)
        with self.assertRaisesRegex(RuntimeError, r"^InfoBatch\.update: .*update\(losses, ids\)"):
            ib.update([1.0])
        batches = iter(ib.batch_sampler(10))
        next(batches)
        ib.update([1.0] * 10)
        with self.assertRaisesRegex(RuntimeError, "second update"):
            ib.update([1.0] * 10)
        next(batches)
        with self.assertRaisesRegex(RuntimeError, "row"):
            ib.update([1.0] * 9)
        with self.assertRaisesRegex(ValueError, "reduction"):
            ib.update([1.0] * 10, reduction="median")

    def test_two_loaders_on_one_run_are_refused_and_two_runs_work(self):
        ib, other = InfoBatch(100, 8), InfoBatch(100, 8)
        one, two = iter(ib.sampler), iter(ib.sampler)
        next(one)
        next(two)
        with self.assertRaisesRegex(RuntimeError, "two loaders"):
            next(one)
        for a, b in zip(ib.batch_sampler(10), other.batch_sampler(20)):
            ib.update([1.0] * len(a))
            other.update([2.0] * len(b))

    def test_iterating_is_pure_and_peeking_repeats_the_plan(self):
        ib = InfoBatch(100, 8)
        iter(ib.sampler), iter(ib.sampler)
        first = next(iter(ib.batch_sampler(10)))
        self.assertEqual(next(iter(ib.batch_sampler(10))), first)
        self.assertEqual(ib.epoch, 0)
        self.assertIs(ib.sampler, ib.sampler)

    def test_a_forgotten_third_line_warns(self):
        ib = InfoBatch(100, 8)
        for _ in ib.batch_sampler(10):
            pass
        with self.assertWarns(infobatch.UpdateForgottenWarning):
            next(iter(ib.batch_sampler(10)))

    def test_a_copy_is_independent_and_a_pickled_one_is_the_data_set(self):
        ib = InfoBatch(Numbers(100), 8)
        for ids in ib.batch_sampler(10):
            ib.update([float(i) for i in ids])
        twin = copy.deepcopy(ib)
        mine = [i for batch in ib.batch_sampler(10) for i in batch]
        self.assertEqual([i for batch in twin.batch_sampler(10) for i in batch], mine)
        plain = pickle.loads(pickle.dumps(ib))
        self.assertEqual((len(plain), plain[7], plain.note), (100, 7, ib.note))
        with self.assertRaisesRegex(RuntimeError, "plain data set"):
            plain.update([1.0])
        with self.assertRaises(TypeError):
            pickle.dumps(ib.sampler)

    def test_columns_are_kept_and_compared(self):
        ib = InfoBatch(4, 8, columns={"class": [0, 1, 0, 1]})
        self.assertEqual(list(ib.column("class")), [0, 1, 0, 1])
        other = InfoBatch(4, 8, columns={"class": [0, 1, 1, 1]})
        with self.assertRaisesRegex(ValueError, "class"):
            other.load_state_dict(ib.state_dict())
        with self.assertRaisesRegex(ValueError, "one value for each"):
            InfoBatch(4, 8, columns={"class": [0, 1]})


class Soundness(unittest.TestCase):
    """Random loops that lose rows, parts and batches: no wrong score, no clean loop refused."""

    def loop(self, rng):
        """A run of two epochs and a look at the third; returns what became of it."""
        size, batch = rng.randint(1, 300), rng.randint(1, 64)
        ahead = rng.choice([0, 0, 1, 4])
        by_rows = rng.random() < 0.5
        drop_last = rng.random() < 0.4
        part = batch if by_rows else rng.choice([batch, batch, rng.randint(1, batch)])
        fault = rng.choice(["none", "none", "row", "batch", "twice"])
        at = rng.randrange(-(-size // batch))
        ib = InfoBatch(size, 6, seed=rng.randrange(1000))
        hurt = False

        def batches():
            if not by_rows:
                yield from ib.batch_sampler(batch, drop_last)
                return
            taken = []
            for index in ib.sampler:
                taken.append(index)
                if len(taken) == batch:
                    yield taken
                    taken = []
            if taken and not drop_last:
                yield taken

        try:
            for epoch in range(2):
                waiting, source, number = [], batches(), 0
                for _ in range(ahead):
                    waiting += [b for b in [next(source, None)] if b]
                while True:
                    waiting += [b for b in [next(source, None)] if b]
                    if not waiting:
                        break
                    ids = list(waiting.pop(0))
                    number += 1
                    if epoch == 0 and number - 1 == at and fault != "none":
                        if fault == "batch":
                            hurt = True
                            continue
                        if fault == "row":
                            hurt = True
                            ids.pop(rng.randrange(len(ids)))
                    for a in range(0, len(ids), part):
                        piece = ids[a : a + part]
                        ib.update([loss_of(i, epoch) for i in piece])
                        if epoch == 0 and number - 1 == at and fault == "twice":
                            hurt = True
                            ib.update([loss_of(i, epoch) for i in piece])
            len(ib.sampler)
        except RuntimeError:
            return "refused" if hurt else "false alarm"
        scores = list(ib.scores)
        wrong = sum(
            1
            for i, score in enumerate(scores)
            if score == score and min(abs(score - loss_of(i, e)) for e in (0, 1)) > 1e-4
        )
        return "wrong" if wrong else "sound"

    def test_none_silently_wrong_and_no_clean_one_refused(self):
        found = {}
        rng = random.Random(11)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", infobatch.InfoBatchWarning)
            for _ in range(4000):
                verdict = self.loop(rng)
                found[verdict] = found.get(verdict, 0) + 1
        self.assertNotIn("wrong", found)
        self.assertNotIn("false alarm", found)
        self.assertGreater(found["refused"], 500)
        self.assertGreater(found["sound"], 1000)


class Resuming(unittest.TestCase):
    def test_stopped_anywhere_equals_never_stopped(self):
        def run(ib, steps, log, stop=None):
            """Trains until the run's end, or until `stop` steps were made."""
            while ib.epoch < 5:
                epoch = ib.epoch
                for ids in ib.batch_sampler(16):
                    log.append((epoch, tuple(ids), ib.update([loss_of(i, epoch) for i in ids])))
                    steps += 1
                    if stop is not None and steps == stop:
                        return
            return

        whole = []
        run(InfoBatch(120, 5, seed=9), 0, whole)
        for stop in range(1, len(whole)):
            log = []
            first = InfoBatch(120, 5, seed=9)
            run(first, 0, log, stop)
            second = InfoBatch(120, 5, seed=9)
            second.load_state_dict(first.state_dict())
            run(second, stop, log)
            self.assertEqual(log, whole, f"stopped behind step {stop}")


    def test_an_iterator_that_is_restored_goes_on_with_the_run(self):
        """What a stateful loader does: the iterator's state beside the run's, at every step."""

        def run(ib, iterator, log, stop=None):
            while ib.epoch < 4:
                for batch in iterator:
                    epoch = ib.epoch
                    ids = [batch] if isinstance(batch, int) else batch
                    log.append((epoch, ids, ib.update([loss_of(i, epoch) for i in ids])))
                    if len(log) == stop:
                        return iterator.state_dict()
                iterator = self.iterator(ib)
            return None

        for rows in (False, True):
            self.iterator = lambda ib, rows=rows: iter(ib.sampler if rows else ib.batch_sampler(16))
            whole = []
            ib = InfoBatch(50, 4, seed=9)
            run(ib, self.iterator(ib), whole)
            for stop in range(1, len(whole)):
                log = []
                ib = InfoBatch(50, 4, seed=9)
                position = run(ib, self.iterator(ib), log, stop)
                other = InfoBatch(50, 4, seed=9)
                fresh = self.iterator(other)
                fresh.load_state_dict(position)
                with self.assertRaisesRegex(ValueError, "same step"):
                    next(fresh)
                other.load_state_dict(ib.state_dict())
                restored = self.iterator(other)
                restored.load_state_dict(position)
                run(other, restored, log)
                self.assertEqual(log, whole, f"stopped behind step {stop}")


@unittest.skipIf(torch is None, "torch is not installed")
class WithTorch(unittest.TestCase):
    def loader(self, ib, **options):
        from torch.utils.data import DataLoader

        return DataLoader(ib, batch_size=64, sampler=ib.sampler, **options)

    def test_official_three_lines(self):
        for options in (
            {},
            {"num_workers": 2},
            {"num_workers": 2, "persistent_workers": True, "prefetch_factor": 4},
            {"drop_last": True},
            {"num_workers": 1, "multiprocessing_context": "spawn"},
        ):
            with self.subTest(options), warnings.catch_warnings():
                warnings.simplefilter("error", infobatch.InfoBatchWarning)
                ib = InfoBatch(Numbers(500), 4)
                self.assertIsInstance(ib, torch.utils.data.Dataset)
                loader = self.loader(ib, **options)
                for epoch in range(4):
                    length, steps = len(loader), 0
                    for ids in loader:
                        scale = torch.ones((), requires_grad=True)
                        loss = ib.update((ids / 1000 + 0.01 * epoch) * scale)
                        loss.backward()
                        self.assertIsNotNone(scale.grad)
                        steps += 1
                    self.assertEqual(steps, length)
                self.assertGreater(ib.get_pruned_count(), 50)
                len(loader)
                for i, score in enumerate(ib.scores.tolist()):
                    near = min(abs(score - loss_of(i, epoch)) for epoch in range(4))
                    self.assertLess(near, 1e-5)

    def test_update_gives_float32_and_leaves_losses_as_they_are(self):
        ib = InfoBatch(96, 8)
        kinds = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
        for ids, kind in zip(ib.batch_sampler(24), kinds):
            losses = torch.rand(24, 3, dtype=kind, requires_grad=True)
            before = losses.detach().clone()
            loss = ib.update(losses)
            self.assertEqual(loss.dtype, torch.float64 if kind == torch.float64 else torch.float32)
            self.assertTrue(torch.equal(losses, before))
            loss.backward()
            self.assertAlmostEqual(losses.grad.sum().item(), 1.0, places=2)
        len(ib.sampler)
        self.assertFalse(ib.scores.isnan().any())

    def test_refusals(self):
        ib = InfoBatch(96, 8)
        next(iter(ib.batch_sampler(24)))
        with self.assertRaisesRegex(ValueError, "reduction='none'.*scale_gradient"):
            ib.update(torch.tensor(1.0))
        with self.assertRaisesRegex(ValueError, "floating"):
            ib.update(torch.ones(24, dtype=torch.int64))
        with self.assertRaisesRegex(IndexError, "96"):
            ib.update(torch.ones(2), torch.tensor([0, 96]))

        class Stream(torch.utils.data.IterableDataset):
            def __iter__(self):
                return iter([1])

            def __len__(self):
                return 1

        with self.assertRaisesRegex(TypeError, "iterable"):
            InfoBatch(Stream(), 8)
        ib.update(torch.ones(24))

    def test_ids_accumulation_and_scale_gradient(self):
        ib = InfoBatch(96, 8)
        for ids in ib.batch_sampler(24):
            for part in torch.tensor(ids).split(8):
                ib.update(part / 1000)
        for ids in ib.batch_sampler(24):
            weights = ib.observe(torch.tensor(ids) / 1000)
            outputs = torch.ones(len(ids), 2, requires_grad=True)
            infobatch.scale_gradient(outputs, weights).sum().backward()
            self.assertTrue(torch.equal(outputs.grad, weights[:, None].expand(-1, 2)))
            self.assertTrue(torch.equal(ib.get_weights(torch.tensor(ids)), weights))
        for ids in ib.batch_sampler(24):
            backwards = torch.tensor(ids).flip(0)
            ib.update(backwards / 1000, backwards)
        len(ib.sampler)
        self.assertTrue(torch.allclose(ib.scores, torch.arange(96) / 1000))

    def test_another_device_is_brought_back_once_an_epoch(self):
        ib = InfoBatch(96, 8, device="meta")
        for ids in ib.batch_sampler(24):
            loss = ib.update(torch.ones(len(ids), device="meta", requires_grad=True))
            self.assertEqual(loss.device.type, "meta")
            loss.backward()
        with self.assertRaisesRegex(ValueError, "device"):
            ib.update(torch.ones(24))

    def test_the_global_generator_is_left_alone(self):
        state = torch.get_rng_state()
        ib = InfoBatch(96, 8)
        for ids in ib.batch_sampler(24):
            ib.update(torch.ones(len(ids)))
        self.assertTrue(torch.equal(torch.get_rng_state(), state))

    def test_a_state_passes_through_a_file_of_torch(self):
        import io

        ib = InfoBatch(96, 8)
        for ids in ib.batch_sampler(24):
            ib.update(torch.tensor(ids) / 1000)
        file = io.BytesIO()
        torch.save(ib.state_dict(), file)
        file.seek(0)
        other = InfoBatch(96, 8)
        report = other.load_state_dict(torch.load(file, weights_only=True))
        self.assertEqual((report.epoch, report.position, report.changes), (0, 96, ()))
        self.assertEqual(list(other.batch_sampler(24)), list(ib.batch_sampler(24)))

    def test_a_schedule_follows_progress(self):
        ib = InfoBatch(96, 8)
        weight = torch.nn.Parameter(torch.ones(1))
        optimizer = torch.optim.SGD([weight], lr=1.0)
        steps = ib.max_steps(24)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
        schedule = infobatch.FullRunScheduler(cycle, ib, steps)
        for _ in range(8):
            for ids in ib.batch_sampler(24):
                ib.update(torch.tensor(ids) / 1000 * weight).backward()
                optimizer.step()
                schedule.step()
        self.assertEqual(cycle.last_epoch, steps - 1)


if __name__ == "__main__":
    unittest.main()
