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

package io.lockstep.bridge.sidecar;

import static java.util.Objects.requireNonNull;

import io.lockstep.bridge.sidecar.Messages.Problem;
import io.lockstep.bridge.sidecar.Messages.Refusal;
import io.lockstep.bridge.sidecar.Messages.Result;
import io.lockstep.bridge.sidecar.RefVerdict.Code;
import java.io.IOException;
import java.net.ProtocolException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.function.Function;

/**
 * Reads the answers of the bridge API. An answer that cannot be read leaves the outcome unknown; it
 * is never taken for a refusal.
 */
final class Responses {
  private static final int OK = 200;

  private Responses() {}

  /** The outcomes of the bridge API. */
  private enum Outcome {
    COMMITTED,
    COMMITTED_NOT_YET_VISIBLE,
    REFUSED,
    UNKNOWN
  }

  /**
   * The answer to a request.
   *
   * @param each one verdict per command
   * @param unknownReason why the outcome is unknown; null if it is known
   * @param txn the transaction of a batch; null if there is none, or if it is not a batch
   */
  record Verdicts(List<RefVerdict> each, String unknownReason, String txn) {
    Verdicts(List<RefVerdict> each, String unknownReason) {
      this(each, unknownReason, null);
    }

    static Verdicts unknown(String reason) {
      return new Verdicts(List.of(), reason);
    }

    boolean isKnown() {
      return unknownReason == null;
    }

    /** The same verdicts, with one code replaced by the one that it means for this request. */
    Verdicts replace(Code code, Code meaning) {
      List<RefVerdict> replaced =
          each.stream()
              .map(
                  it ->
                      it.code() == code
                          ? new RefVerdict(meaning, meaning == Code.COMMITTED, it.message())
                          : it)
              .toList();
      return new Verdicts(replaced, unknownReason, txn);
    }

    /** Whether these verdicts also decide an earlier copy of the request whose answer was lost. */
    boolean isFinal() {
      return isKnown() && each.stream().allMatch(verdict -> verdict.code().isOfTheCommand());
    }
  }

  /** The answer to a ref transaction with this number of commands. */
  static Verdicts ofBatch(HttpResponse response, int commands) throws ProtocolException {
    return response.status() == OK
        ? read(response, Messages.Batch.class, Responses::verdicts)
        : problem(response, commands);
  }

  /** The answer to a look-up of a ref transaction. */
  static Verdicts ofLookUp(HttpResponse response) throws IOException {
    if (response.status() == OK) {
      return read(response, Messages.Batch.class, Responses::verdicts);
    }
    throw error(response);
  }

  /** The answer to an operation on a project. */
  static Verdicts ofOperation(HttpResponse response) throws ProtocolException {
    return response.status() == OK
        ? read(response, Result.class, result -> verdicts(List.of(result)))
        : problem(response, 1);
  }

  /** The answer to the creation of a project. The code {@code project} means that it exists. */
  static Verdicts ofCreation(HttpResponse response) throws ProtocolException {
    return ofOperation(response).replace(Code.PROJECT, Code.EXISTS);
  }

  /** The answer to the deletion of a project. The code {@code project} means that it is gone. */
  static Verdicts ofDeletion(HttpResponse response) throws ProtocolException {
    return ofOperation(response).replace(Code.PROJECT, Code.COMMITTED);
  }

  /** An answer without verdicts. */
  static <T> T plain(HttpResponse response, Class<T> type) throws IOException {
    if (response.status() == OK) {
      return read(response, type, Function.identity());
    }
    throw error(response);
  }

  /** An older sidecar, or another program, may answer with a body of another form. */
  private static SidecarError error(HttpResponse response) {
    try {
      return read(
          response,
          Problem.class,
          it -> new SidecarError(response.status(), requireNonNull(it.message()), it.retry()));
    } catch (ProtocolException e) {
      String text = "HTTP " + response.status() + " " + response.body();
      return new SidecarError(response.status(), text, false);
    }
  }

  /** An error of the whole request is the verdict on each of its commands. */
  private static Verdicts problem(HttpResponse response, int commands) throws ProtocolException {
    RefVerdict verdict =
        read(
            response,
            Problem.class,
            it -> new RefVerdict(code(it.code()), false, requireNonNull(it.message())));
    return new Verdicts(Collections.nCopies(commands, verdict), null);
  }

  private static Verdicts verdicts(Messages.Batch batch) {
    Verdicts verdicts = verdicts(batch.results());
    return new Verdicts(verdicts.each(), verdicts.unknownReason(), batch.txn());
  }

  private static Verdicts verdicts(List<Result> results) {
    List<RefVerdict> each = new ArrayList<>();
    for (Result result : results) {
      Outcome outcome = Outcome.valueOf(upper(result.outcome()));
      switch (outcome) {
        case COMMITTED -> each.add(new RefVerdict(Code.COMMITTED, true, ""));
        case COMMITTED_NOT_YET_VISIBLE ->
            each.add(new RefVerdict(Code.COMMITTED, false, why(result.refusal())));
        case REFUSED -> each.add(refused(result.refusal()));
        case UNKNOWN -> {
          return Verdicts.unknown(requireNonNull(result.refusal().message()));
        }
      }
    }
    return new Verdicts(each, null);
  }

  /** A sidecar of an earlier release does not say why a committed ref is not visible. */
  private static String why(Refusal refusal) {
    return refusal == null ? "this server cannot show it yet" : requireNonNull(refusal.message());
  }

  private static RefVerdict refused(Refusal refusal) {
    return new RefVerdict(code(refusal.code()), false, requireNonNull(refusal.message()));
  }

  private static Code code(String name) {
    return Code.valueOf(upper(name));
  }

  private static String upper(String name) {
    return name.toUpperCase(Locale.ROOT);
  }

  /** A missing field, a wrong type and a malformed text each throw an exception of another kind. */
  private static <T, R> R read(HttpResponse response, Class<T> type, Function<T, R> reader)
      throws ProtocolException {
    try {
      return reader.apply(Json.read(response.body(), type));
    } catch (RuntimeException e) {
      ProtocolException unreadable =
          new ProtocolException(
              "the sidecar's answer cannot be read, HTTP %d: %s"
                  .formatted(response.status(), e.getMessage()));
      unreadable.initCause(e);
      throw unreadable;
    }
  }
}
