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

package io.lockstep.bridge.standby;

import com.google.common.flogger.FluentLogger;
import com.google.inject.Inject;
import io.lockstep.bridge.sidecar.Sidecar;
import java.io.IOException;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.aopalliance.intercept.MethodInterceptor;
import org.aopalliance.intercept.MethodInvocation;

/**
 * Lets a periodic job of Gerrit run only while its site is active. The role is asked for each time
 * that the job is due. Without an answer the job does not run: it could commit nothing.
 */
final class PeriodicJobs implements MethodInterceptor {
  /**
   * The jobs that write refs or send or take mails. A test compares them with the classes of the
   * release. The other periodic jobs of Gerrit keep this site's own index, caches and packs.
   */
  static final Set<String> CLASSES =
      Set.of(
          "com.google.gerrit.server.account.AccountDeactivator",
          "com.google.gerrit.server.account.AuthTokenExpiryNotifier",
          "com.google.gerrit.server.change.AttentionSetOwnerAdder",
          "com.google.gerrit.server.change.ChangeCleanupRunner",
          "com.google.gerrit.server.change.DraftCommentsCleanupRunner",
          "com.google.gerrit.server.mail.receive.ImapMailReceiver",
          "com.google.gerrit.server.mail.receive.Pop3MailReceiver");

  /** The methods that do the work of these jobs. None returns a value. */
  static final Set<String> METHODS = Set.of("run", "handleEmails");

  private static final FluentLogger logger = FluentLogger.forEnclosingClass();
  private static final String ACTIVE = "active";

  /** Why a job was not run last, by its class: each reason is logged once. */
  private final Map<Class<?>, String> resting = new ConcurrentHashMap<>();

  @Inject private Sidecar sidecar;

  @Override
  public Object invoke(MethodInvocation call) throws Throwable {
    Class<?> job = call.getMethod().getDeclaringClass();
    String reason = reasonToRest();
    if (reason.isEmpty()) {
      resting.remove(job);
      return call.proceed();
    }
    if (!reason.equals(resting.put(job, reason))) {
      logger.atInfo().log("Lockstep: %s does not run: %s", job.getSimpleName(), reason);
    }
    return null;
  }

  private String reasonToRest() {
    try {
      String role = sidecar.role();
      return role.equals(ACTIVE) ? "" : "the role of this site is " + role;
    } catch (IOException e) {
      return "the role of this site is not known: " + e.getMessage();
    }
  }
}
