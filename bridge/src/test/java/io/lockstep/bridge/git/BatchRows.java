// Copyright (C) 2026 The Lockstep Authors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
// http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.

package io.lockstep.bridge.git;

import static io.lockstep.bridge.git.RepositoryUnderTest.NOWHERE;
import static io.lockstep.bridge.git.RepositoryUnderTest.ZERO;
import static io.lockstep.bridge.git.Row.differs;
import static io.lockstep.bridge.git.Row.same;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.IntStream;
import org.eclipse.jgit.lib.BatchRefUpdate;
import org.eclipse.jgit.lib.ObjectId;
import org.eclipse.jgit.transport.PushCertificate;
import org.eclipse.jgit.transport.PushCertificateParser;
import org.eclipse.jgit.transport.ReceiveCommand;

/** Every result of a batch, atomic or not, with and without permission to force. */
final class BatchRows {
  private static final String MASTER = "refs/heads/master";
  private static final String TOPIC = "refs/heads/topic";
  private static final String OTHER = "refs/heads/other";

  private BatchRows() {}

  private interface Commands {
    ReceiveCommand[] of(RepositoryUnderTest on);
  }

  static final List<Row> ROWS = rows();

  /** The most commands in a part, in {@link #ROWS_IN_PARTS}. */
  static final int PART = 3;

  /** Batches of more commands than one call takes. */
  static final List<Row> ROWS_IN_PARTS =
      List.of(
          same("each: in three parts", on -> on.told(false, false, many(on, 2 * PART + 1))),
          same(
              "each: in parts, with stale ones",
              batch(
                  false,
                  false,
                  on ->
                      commands(
                          create("refs/heads/e0", on.a),
                          create("refs/heads/e1", on.a),
                          update(MASTER, on.b, on.c),
                          create("refs/heads/e2", on.a),
                          update(TOPIC, on.b, on.c),
                          delete(OTHER, on.a),
                          create("refs/heads/e3", on.a)))),
          differs(
              "each: a refusal in the second part",
              batch(
                  false,
                  false,
                  on ->
                      commands(
                          create("refs/heads/e0", on.a),
                          create("refs/heads/e1", on.a),
                          create("refs/heads/e2", on.a),
                          create("refs/heads/e3", on.a),
                          create("refs/heads/e4", on.blob),
                          create("refs/heads/e5", on.a),
                          create("refs/heads/e6", on.a))),
              "refs/heads/e0 OK\nrefs/heads/e1 OK\nrefs/heads/e2 OK\nrefs/heads/e3 OK\n"
                  + "refs/heads/e4 REJECTED_OTHER_REASON\n"
                  + "refs/heads/e5 OK\nrefs/heads/e6 OK",
              "git refuses a branch to a blob, and its part alone has a refusal"),
          same("atomic: as many as one call takes", on -> on.told(true, false, many(on, PART))),
          differs(
              "atomic: one more than one call takes",
              on -> {
                BatchRefUpdate batch = on.git.getRefDatabase().newBatchUpdate();
                batch.setAtomic(true);
                batch.addCommand(many(on, PART + 1));
                return on.told(batch) + "\n" + batch.getCommands().get(0).getMessage();
              },
              "refs/tags/n0 REJECTED_OTHER_REASON\n"
                  + "refs/tags/n1 REJECTED_OTHER_REASON (aborted)\n"
                  + "refs/tags/n2 REJECTED_OTHER_REASON (aborted)\n"
                  + "refs/tags/n3 REJECTED_OTHER_REASON (aborted)\n"
                  + "4 refs in one transaction; at most 3 can be committed together: push in parts",
              "parts are not atomic"));

  private static List<Row> rows() {
    List<Row> rows = new ArrayList<>();
    for (boolean atomic : new boolean[] {true, false}) {
      for (boolean force : new boolean[] {true, false}) {
        String kind = (atomic ? "atomic" : "each") + (force ? ", forced: " : ": ");
        rows.addAll(plain(kind, atomic, force));
      }
      rows.addAll(special(atomic ? "atomic: " : "each: ", atomic));
    }
    rows.add(
        differs(
            "atomic: deletes a name and creates below it",
            batch(
                true,
                false,
                on -> commands(delete(MASTER, on.a), create("refs/heads/master/a", on.a))),
            "refs/heads/master REJECTED_OTHER_REASON\nrefs/heads/master/a REJECTED_OTHER_REASON",
            "git cannot do both in one step, nor could a site that follows"));
    rows.add(
        same(
            "each: deletes a name and creates above it",
            batch(
                false,
                false,
                on -> commands(create("refs/heads/d/e", on.a)),
                on -> commands(delete("refs/heads/d/e", on.a), create("refs/heads/d", on.a)))));
    rows.add(
        same(
            "each: deletes a name and creates below it",
            batch(
                false,
                false,
                on -> commands(create("refs/heads/master/a", on.a), delete(MASTER, on.a)))));
    rows.add(same("atomic: very many", on -> on.told(true, false, many(on, 5_000))));
    rows.add(same("each: very many", on -> on.told(false, false, many(on, 2_100))));
    return rows;
  }

  /** Rows that start with {@code master = a} and {@code topic = b}. */
  private static List<Row> plain(String kind, boolean atomic, boolean force) {
    List<Row> rows = new ArrayList<>();
    add(
        rows,
        kind + "creates two",
        atomic,
        force,
        on -> commands(create(OTHER, on.a), create("refs/tags/v1", on.b)));
    add(
        rows,
        kind + "moves, creates, deletes",
        atomic,
        force,
        on -> commands(update(MASTER, on.a, on.c), create(OTHER, on.x), delete(TOPIC, on.b)));
    add(
        rows,
        kind + "one stale",
        atomic,
        force,
        on -> commands(update(MASTER, on.b, on.c), update(TOPIC, on.b, on.c), create(OTHER, on.a)));
    add(
        rows,
        kind + "all stale",
        atomic,
        force,
        on -> commands(update(MASTER, on.b, on.c), delete(TOPIC, on.a), create(TOPIC + "2", on.a)));
    add(
        rows,
        kind + "creates what is there",
        atomic,
        force,
        on -> commands(create(MASTER, on.a), create(OTHER, on.a)));
    add(
        rows,
        kind + "creates what is there with another value",
        atomic,
        force,
        on -> commands(create(MASTER, on.b), create(OTHER, on.a)));
    add(
        rows,
        kind + "updates what is not there",
        atomic,
        force,
        on -> commands(update(OTHER, on.a, on.b), update(TOPIC, on.b, on.c)));
    add(
        rows,
        kind + "deletes what is not there",
        atomic,
        force,
        on -> commands(delete(OTHER, on.a), update(TOPIC, on.b, on.c)));
    add(
        rows,
        kind + "back",
        atomic,
        force,
        on -> commands(update(TOPIC, on.b, on.a), update(MASTER, on.a, on.b)));
    add(
        rows,
        kind + "unrelated",
        atomic,
        force,
        on -> commands(update(MASTER, on.a, on.b), update(TOPIC, on.b, on.x)));
    add(
        rows,
        kind + "no change",
        atomic,
        force,
        on -> commands(update(MASTER, on.a, on.a), update(TOPIC, on.b, on.c)));
    add(
        rows,
        kind + "a missing object",
        atomic,
        force,
        on -> commands(update(MASTER, on.a, NOWHERE), create(OTHER, on.a)));
    add(
        rows,
        kind + "a missing old object",
        atomic,
        force,
        on -> commands(delete(MASTER, NOWHERE), create(OTHER, on.a)));
    add(
        rows,
        kind + "below a ref",
        atomic,
        force,
        on -> commands(create("refs/heads/topic/a", on.a), create(OTHER, on.a)));
    add(
        rows,
        kind + "above a ref",
        atomic,
        force,
        on -> commands(create(OTHER, on.a), create("refs/heads", on.a)));
    add(
        rows,
        kind + "names that exclude each other",
        atomic,
        force,
        on -> commands(create("refs/heads/n", on.a), create("refs/heads/n/m", on.a)));
    add(
        rows,
        kind + "blobs",
        atomic,
        force,
        on -> commands(create("refs/sequences/changes", on.blob), update(MASTER, on.a, on.b)));
    add(
        rows,
        kind + "local and replicated",
        atomic,
        force,
        on ->
            commands(
                create("refs/changes/01/1/1", on.a),
                create("refs/changes/01/1/meta", on.x),
                create("refs/cache-automerge/ab/cd", on.b)));
    add(rows, kind + "only one", atomic, force, on -> commands(update(MASTER, on.a, on.b)));
    add(
        rows,
        kind + "only one, unrelated",
        atomic,
        force,
        on -> commands(update(MASTER, on.a, on.x)));
    add(
        rows,
        kind + "only one, deleted without its value",
        atomic,
        force,
        on -> commands(new ReceiveCommand(ZERO, ZERO, TOPIC, ReceiveCommand.Type.DELETE)));
    return rows;
  }

  private static List<Row> special(String kind, boolean atomic) {
    List<Row> rows = new ArrayList<>();
    rows.add(same(kind + "nothing", on -> on.told(atomic, false)));
    rows.add(
        same(
            kind + "rejected before",
            batch(
                atomic,
                false,
                on -> {
                  ReceiveCommand rejected = update(TOPIC, on.b, on.c);
                  rejected.setResult(ReceiveCommand.Result.REJECTED_NOCREATE, "a hook said no");
                  return commands(rejected, update(MASTER, on.a, on.b), create(OTHER, on.a));
                })));
    rows.add(same(kind + "with a push certificate", on -> withCertificate(on, atomic)));
    return rows;
  }

  private static void add(
      List<Row> rows, String name, boolean atomic, boolean force, Commands commands) {
    rows.add(same(name, batch(atomic, force, commands)));
  }

  /**
   * Executes batches one after the other, starting with {@code master = a} and {@code topic = b}.
   * Returns the results of the last one.
   */
  private static Row.Scenario batch(boolean atomic, boolean force, Commands... batches) {
    return on -> {
      on.have(MASTER, on.a);
      on.have(TOPIC, on.b);
      String told = "";
      for (Commands commands : batches) {
        told = on.told(atomic, force, commands.of(on));
      }
      return told;
    };
  }

  private static String withCertificate(RepositoryUnderTest on, boolean atomic) throws IOException {
    PushCertificate certificate =
        PushCertificateParser.fromString(
            String.join(
                "\n",
                "certificate version 0.1",
                "pusher T <t@example.com> 1800000000 +0000",
                "nonce 1-2",
                "",
                ZERO.name() + " " + on.a.name() + " " + OTHER,
                "-----BEGIN PGP SIGNATURE-----",
                "",
                "x",
                "-----END PGP SIGNATURE-----",
                ""));
    BatchRefUpdate batch = on.git.getRefDatabase().newBatchUpdate();
    batch.setAtomic(atomic);
    batch.setPushCertificate(certificate);
    batch.addCommand(create(OTHER, on.a), create(TOPIC, on.a));
    return on.told(batch);
  }

  private static ReceiveCommand[] many(RepositoryUnderTest on, int count) {
    return IntStream.range(0, count)
        .mapToObj(n -> create("refs/tags/n" + n, on.a))
        .toArray(ReceiveCommand[]::new);
  }

  private static ReceiveCommand create(String name, ObjectId to) {
    return new ReceiveCommand(ZERO, to, name);
  }

  private static ReceiveCommand update(String name, ObjectId from, ObjectId to) {
    return new ReceiveCommand(from, to, name);
  }

  private static ReceiveCommand delete(String name, ObjectId from) {
    return new ReceiveCommand(from, ZERO, name);
  }

  private static ReceiveCommand[] commands(ReceiveCommand... commands) {
    return commands;
  }
}
